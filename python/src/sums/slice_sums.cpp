#include "sums/slice_sums.h"

#include <cstring>
#include <iterator>

#include "numerics/float_environment.h"
#include "numerics/sum_access.h"
#include "sums/slice_sweep.h"

namespace mseloss::python {

SliceSums::SliceSums(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                     std::span<const int64_t> shape, unsigned reduced)
    : weighted_(weight != nullptr && weight->dtype != DType::kBool) {
  count_ = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (reduced >> d & 1) {
      count_ *= static_cast<uint64_t>(shape[d]);
    } else {
      kept_.push_back(shape[d]);
      slices_ *= shape[d];
    }
  }
  if (weight != nullptr && !weighted_) masked_.resize(static_cast<size_t>(slices_));
  squares_ = LimbWindow(slices_);
  weights_ = LimbWindow(slices_);
  const FloatEnvironment environment;
  if (input.dtype == DType::kFloat64 || target.dtype == DType::kFloat64) {
    SliceSweep<double>(input, target, weight, shape, reduced, this).run();
  } else {
    SliceSweep<float>(input, target, weight, shape, reduced, this).run();
  }
  squares_.shrink();
  weights_.shrink();
}

void SliceSums::add_special(int64_t slice, const Special& terms) {
  if (terms.squares == 0 && terms.weights == 0) return;
  if (special_.empty()) special_.resize(static_cast<size_t>(slices_));
  special_[static_cast<size_t>(slice)].squares += terms.squares;
  special_[static_cast<size_t>(slice)].weights += terms.weights;
}

bool SliceSums::merge(const SliceSums& other) {
  if (kept_ != other.kept_ || weighted_ != other.weighted_) return false;
  count_ += other.count_;
  if (!other.masked_.empty()) {
    masked_.resize(static_cast<size_t>(slices_));
    for (size_t s = 0; s < masked_.size(); ++s) masked_[s] += other.masked_[s];
  }
  for (size_t s = 0; s < other.special_.size(); ++s) add_special(static_cast<int64_t>(s), other.special_[s]);
  squares_.add(other.squares_);
  weights_.add(other.weights_);
  return true;
}

void SliceSums::finish(Reduction reduction, DType dtype, void* out) const {
  constexpr int kLimbs = PartialSum::kLimbs;
  uint64_t limbs[2 * kLimbs] = {};
  for (size_t s = 0; s < static_cast<size_t>(slices_); ++s) {
    squares_.copy(static_cast<int64_t>(s), limbs);
    if (weighted_) weights_.copy(static_cast<int64_t>(s), limbs + kLimbs);
    SumState state;
    (weighted_ ? state.weighted : state.count) = count_ - (masked_.empty() ? 0 : masked_[s]);
    if (!special_.empty()) {
      state.squares.special = special_[s].squares;
      state.weights.special = special_[s].weights;
    }
    SumAccess::finish(state, limbs, reduction, dtype,
                      static_cast<char*>(out) + s * static_cast<size_t>(size_of(dtype)));
  }
}

namespace {

constexpr uint64_t kTag = 0x4d53'4553'4c49'0001;  // "MSESLI", 1; reads differently in another byte order

template <class V>
void append(std::string* bytes, const V* values, size_t count) {
  bytes->append(reinterpret_cast<const char*>(values), count * sizeof(V));
}
template <class V>
bool take(std::string_view* bytes, V* values, size_t count) {
  if (bytes->size() / sizeof(V) < count) return false;
  if (count != 0) std::memcpy(values, bytes->data(), count * sizeof(V));
  bytes->remove_prefix(count * sizeof(V));
  return true;
}

}  // namespace

std::string SliceSums::state() const {
  std::string bytes;
  const uint64_t header[] = {kTag, weighted_, kept_.size(), count_, masked_.size(), special_.size()};
  append(&bytes, header, std::size(header));
  append(&bytes, kept_.data(), kept_.size());
  append(&bytes, masked_.data(), masked_.size());
  append(&bytes, special_.data(), special_.size());
  squares_.write(&bytes);
  weights_.write(&bytes);
  return bytes;
}

bool SliceSums::set_state(std::string_view bytes) {
  uint64_t header[6];
  if (!take(&bytes, header, std::size(header)) || header[0] != kTag || header[1] > 1 ||
      header[2] > kMaxRank) {
    return false;
  }
  weighted_ = header[1] != 0;
  count_ = header[3];
  kept_.resize(header[2]);
  if (!take(&bytes, kept_.data(), kept_.size())) return false;
  slices_ = 1;
  for (const int64_t extent : kept_) {
    if (extent < 0 || __builtin_mul_overflow(slices_, extent, &slices_)) return false;
  }
  const auto slices = static_cast<uint64_t>(slices_);
  const auto known = [&](uint64_t count) { return count == 0 || (count == slices && count <= bytes.size()); };
  if (!known(header[4]) || !known(header[5])) return false;
  masked_.resize(header[4]);
  special_.resize(header[5]);
  squares_ = LimbWindow(slices_);
  weights_ = LimbWindow(slices_);
  return take(&bytes, masked_.data(), masked_.size()) && take(&bytes, special_.data(), special_.size()) &&
         squares_.read(&bytes) && weights_.read(&bytes) && bytes.empty();
}

}  // namespace mseloss::python
