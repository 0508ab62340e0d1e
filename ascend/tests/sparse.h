// Tensors of any length on a machine of any size: reserved address space, in which unwritten elements read as
// zero.
#pragma once

#include <sys/mman.h>

#include <new>

#include "support.h"

namespace ascend_tests {

class SparseTensor {
 public:
  explicit SparseTensor(uint64_t bytes) : bytes_(bytes) {
    address_ =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address_ == MAP_FAILED) {
      throw std::bad_alloc();
    }
  }
  ~SparseTensor() { munmap(address_, bytes_); }
  SparseTensor(const SparseTensor&) = delete;
  SparseTensor& operator=(const SparseTensor&) = delete;
  void* data() const { return address_; }

 private:
  uint64_t bytes_;
  void* address_;
};

// A call on sparse tensors that runs only some blocks. Put() sets the inputs of single elements, and only the
// results around these are checked.
class SparseCase {
 public:
  explicit SparseCase(const Request& request)
      : request(request),
        type_(OracleType(request.dtype)),
        predict_(Bytes(request.predict.shape)),
        label_(Bytes(request.label.shape)),
        dout_(Bytes(request.dout.shape)),
        y_(Bytes(request.y_shape)) {
    this->request.predict.data = predict_.data();
    this->request.label.data = label_.data();
    this->request.dout.data = dout_.data();
    this->request.y = y_.data();
  }

  // Sets the inputs of element i of y to distinct values.
  void Put(int64_t i) {
    elements_.push_back(i);
    float value = 0.75f + static_cast<float>(elements_.size());
    for (ascend_model::Tensor* tensor : {&request.predict, &request.label, &request.dout}) {
      const int64_t at = oracle::offset_of(tensor->shape, {}, request.y_shape, i);
      oracle::store(type_, At(tensor->data, at), oracle::encode(type_, value));
      value = value * 0.5f - 3;
    }
  }

  // Runs the blocks of the elements set by Put(). Returns an empty string if these and their neighbours are
  // right.
  std::string RunAndCheck(const ascend_model::Operator& op = ascend_model::MseLossV2Grad()) {
    MseLossV2GradTilingData t{};
    uint32_t blocks = 0;
    const std::string refusal = ascend_model::Tile(op, request, &t, &blocks);
    if (!refusal.empty()) {
      return refusal;
    }
    const int64_t total = oracle::count_of(request.y_shape);
    const int64_t units = (total + 512 / Width() - 1) / (512 / Width());
    std::vector<int64_t> chosen;
    for (const int64_t element : elements_) {
      const int64_t unit = element / (512 / Width());
      const int64_t base = units / blocks, extra = units % blocks;
      chosen.push_back(unit < extra * (base + 1) ? unit / (base + 1)
                                                 : extra + (unit - extra * (base + 1)) / base);
    }
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    request.only_blocks = chosen;
    outcome = ascend_model::RunOperator(op, request);
    if (!outcome.error.empty()) {
      return outcome.error;
    }
    const double scale =
        request.reduction == "mean"
            ? oracle::two_over(static_cast<uint64_t>(oracle::count_of(request.predict.shape)), 24)
            : 2;
    for (const int64_t element : elements_) {
      for (int64_t i = std::max<int64_t>(element - 2, 0); i <= std::min(element + 2, total - 1); ++i) {
        double in[3];
        int k = 0;
        for (const ascend_model::Tensor* tensor : {&request.dout, &request.predict, &request.label}) {
          const int64_t at = oracle::offset_of(tensor->shape, {}, request.y_shape, i);
          in[k++] = oracle::decode(type_, oracle::load(type_, At(tensor->data, at)));
        }
        const uint64_t expected =
            oracle::grad_element<float>(in[0], in[1], in[2], static_cast<float>(scale), type_, type_);
        if (!oracle::same(type_, oracle::load(type_, At(request.y, i)), expected)) {
          std::ostringstream text;
          text << "element " << i << " is wrong";
          return text.str();
        }
      }
    }
    return "";
  }

  Request request;
  ascend_model::Outcome outcome;

 private:
  int64_t Width() const { return oracle::bytes_of(type_); }
  uint64_t Bytes(const Shape& shape) const {
    return static_cast<uint64_t>(oracle::count_of(shape) * Width());
  }
  void* At(const void* data, int64_t i) const {
    return static_cast<uint8_t*>(const_cast<void*>(data)) + i * Width();
  }

  mseloss::DType type_;
  SparseTensor predict_, label_, dout_, y_;
  std::vector<int64_t> elements_;
};

}  // namespace ascend_tests
