// A call of one operator as the fuzzer's bytes describe it: shapes, strides, dtypes and where the operands
// lie.
#pragma once

#include <array>
#include <string>

#include "tests/fuzz/arena.h"
#include "tests/fuzz/input.h"

namespace fuzz {

using mseloss::ConstTensor;
using mseloss::DType;
using mseloss::HostThreads;
using mseloss::Options;
using mseloss::Reduction;
using mseloss::Tensor;
using oracle::Shape;

enum class Operator { kGrad, kLoss, kLossAndGrad, kPartialSum, kExplain, kDigits };
enum Role { kG, kX, kY, kW, kGradOut, kLossOut, kRoles };
inline const char* const kRoleNames[] = {"grad_output", "input", "target", "weight", "grad_input", "loss"};

struct View {
  DType dtype = DType::kFloat32;
  Shape shape, strides;
  char* data = nullptr;
  Arena* arena = nullptr;

  bool has_strides() const { return strides.size() == shape.size(); }
  int64_t count() const {  // 0 also for negative extents
    for (const int64_t extent : shape)
      if (extent <= 0) return 0;
    return oracle::count_of(shape);
  }
  int64_t stride(size_t k) const {  // also without explicit strides
    if (!strides.empty()) return strides[k];
    int64_t dense = 1;
    for (size_t i = shape.size(); --i > k;) dense *= shape[i];
    return dense;
  }
  // Distances of the first and the last byte from element (0, ..., 0).
  std::pair<int64_t, int64_t> reach() const;
  ConstTensor input() const { return {data, dtype, shape, strides}; }
  Tensor output() const { return {data, dtype, shape, strides}; }
};

struct Case {
  Operator op;
  bool weighted;
  Reduction reduction;
  Options options;
  const char* target;
  bool wild;  // extents and strides may describe any memory: for explain() only
  std::array<bool, kRoles> used{};
  View views[kRoles];
  cases::Random random{0};
  Input* input;  // the bytes that are left

  bool sums() const { return reduction != Reduction::kNone; }
  bool is_output(int role) const { return role >= kGradOut; }
  // Calls f(role, view) for each operand in use.
  template <class F>
  void each(F f) {
    for (int role = 0; role < kRoles; ++role) {
      if (used[static_cast<size_t>(role)]) f(role, views[role]);
    }
  }
};

// Fills *c, and the windows of the arenas with values and canaries.
void decode(Input& input, Arena* arenas, Case* c);
std::string describe(Case& c);

// The shape to which all inputs broadcast; false if they do not.
bool broadcast_shape(Case& c, Shape* all);

// The codes with which the call may fail, by a bit each. 0: it must succeed. Decided element by element.
uint32_t expected_errors(Case& c);

}  // namespace fuzz
