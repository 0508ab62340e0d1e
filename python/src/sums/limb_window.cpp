#include <algorithm>
#include <cstring>

#include "sums/slice_sums.h"

namespace mseloss::python {
namespace {

constexpr int kLimbs = PartialSum::kLimbs;

uint64_t sign_of(uint64_t limb) { return limb >> 63 != 0 ? ~uint64_t{0} : 0; }

}  // namespace

uint64_t LimbWindow::limb(int64_t slice, int index) const {
  if (size_ == 0 || index < first_) return 0;
  const uint64_t* own = &limbs_[static_cast<size_t>(slice * size_)];
  return index < first_ + size_ ? own[index - first_] : sign_of(own[size_ - 1]);
}

void LimbWindow::cover(int first, int last) {
  if (size_ != 0) {
    if (first_ <= first && last <= first_ + size_) return;
    first = std::min(first, first_);
    last = std::max(last, first_ + size_);
  }
  std::vector<uint64_t> wider(static_cast<size_t>(slices_ * (last - first)));
  if (size_ != 0) {
    for (int64_t s = 0; s < slices_; ++s) {
      for (int i = first; i < last; ++i) {
        wider[static_cast<size_t>(s * (last - first) + i - first)] = limb(s, i);
      }
    }
  }
  limbs_ = std::move(wider);
  first_ = first;
  size_ = last - first;
}

void LimbWindow::set(int64_t slice, int from, std::span<const uint64_t> limbs) {
  const int end = from + static_cast<int>(limbs.size());
  cover(from, end);
  uint64_t* own = &limbs_[static_cast<size_t>(slice * size_)];
  std::copy(limbs.begin(), limbs.end(), own + (from - first_));
  std::fill(own + (end - first_), own + size_, sign_of(limbs.back()));
}

void LimbWindow::add(const LimbWindow& other) {
  if (other.size_ == 0) return;
  const LimbWindow copy = &other == this ? other : LimbWindow();
  const LimbWindow& terms = &other == this ? copy : other;
  // One more limb takes the carry; kLimbs hold every sum.
  cover(terms.first_, std::min(kLimbs, std::max(first_ + size_, terms.first_ + terms.size_) + 1));
  for (int64_t s = 0; s < slices_; ++s) {
    uint64_t* own = &limbs_[static_cast<size_t>(s * size_)];
    bool carry = false;
    for (int i = terms.first_ - first_; i < size_; ++i) {
      uint64_t sum;
      const bool first = __builtin_add_overflow(own[i], terms.limb(s, first_ + i), &sum);
      carry = __builtin_add_overflow(sum, uint64_t{carry}, &own[i]) || first;
    }
  }
  shrink();
}

void LimbWindow::shrink() {
  const auto all = [&](auto condition) {
    for (int64_t s = 0; s < slices_; ++s) {
      if (!condition(&limbs_[static_cast<size_t>(s * size_)])) return false;
    }
    return true;
  };
  int low = 0, high = size_;
  while (high > 1 && all([&](const uint64_t* own) { return own[high - 1] == sign_of(own[high - 2]); }))
    --high;
  while (low < high && all([&](const uint64_t* own) { return own[low] == 0; })) ++low;
  if (low == 0 && high == size_) return;
  const int size = high - low;
  for (int64_t s = 0; s < slices_; ++s) {
    for (int i = 0; i < size; ++i) {
      limbs_[static_cast<size_t>(s * size + i)] = limbs_[static_cast<size_t>(s * size_ + low + i)];
    }
  }
  limbs_.resize(static_cast<size_t>(slices_ * size));
  limbs_.shrink_to_fit();
  first_ += low;
  size_ = size;
}

void LimbWindow::copy(int64_t slice, uint64_t* limbs) const {
  std::fill(limbs, limbs + kLimbs, 0);
  if (size_ == 0) return;
  const uint64_t* own = &limbs_[static_cast<size_t>(slice * size_)];
  std::copy(own, own + size_, limbs + first_);
  std::fill(limbs + first_ + size_, limbs + kLimbs, sign_of(own[size_ - 1]));
}

void LimbWindow::write(std::string* bytes) const {
  bytes->append(reinterpret_cast<const char*>(&first_), sizeof(first_));
  bytes->append(reinterpret_cast<const char*>(&size_), sizeof(size_));
  bytes->append(reinterpret_cast<const char*>(limbs_.data()), limbs_.size() * sizeof(uint64_t));
}

bool LimbWindow::read(std::string_view* bytes) {
  constexpr size_t kHeader = sizeof(first_) + sizeof(size_);
  if (bytes->size() < kHeader) return false;
  std::memcpy(&first_, bytes->data(), sizeof(first_));
  std::memcpy(&size_, bytes->data() + sizeof(first_), sizeof(size_));
  bytes->remove_prefix(kHeader);
  if (first_ < 0 || size_ < 0 || first_ > kLimbs || size_ > kLimbs - first_) return false;
  const auto slices = static_cast<size_t>(slices_), size = static_cast<size_t>(size_);
  if (size != 0 && bytes->size() / sizeof(uint64_t) / size < slices) return false;
  const size_t count = slices * size;
  limbs_.resize(count);
  if (count != 0) std::memcpy(limbs_.data(), bytes->data(), count * sizeof(uint64_t));
  bytes->remove_prefix(count * sizeof(uint64_t));
  return true;
}

}  // namespace mseloss::python
