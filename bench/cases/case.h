// A benchmark case: an operator on operands with given layouts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mseloss/mseloss.h"

namespace bench {

using mseloss::DType;
using mseloss::Reduction;
using Shape = std::vector<int64_t>;

enum class Op : uint8_t { kGrad, kLoss, kFused };

// grad_output, input, target, weight, grad_input (or the elementwise loss), the sum or mean
enum Operand : int { kG, kX, kY, kW, kOut, kLoss, kOperands };
constexpr int kInputs = kOut;

struct View {
  Shape shape, strides;  // strides in elements, same rank as shape
  int64_t offset = 0;    // first element, in elements from the start of the arena
};

View dense(Shape shape);
// `order` lists the dimensions as they lie in memory, outermost first.
View permuted(const Shape& shape, const std::vector<int>& order);
View pitched(Shape shape, int64_t pitch);  // row pitch in elements
View strided(Shape shape, int64_t step);   // all strides multiplied by `step`

struct Case {
  std::string id, group;
  Op op = Op::kGrad;
  DType dtype = DType::kFloat32;
  DType weight_dtype = DType::kFloat32;  // dtype or kBool
  bool weighted = false;
  Reduction reduction = Reduction::kMean;
  View view[kOperands];  // view[kLoss] is 0-dimensional, or 1 where a dimension is reduced
  mseloss::Options options;
  std::string target;       // instruction-set target; empty: the best one
  bool plain_sum = false;   // also time a plain float64 sum of squared differences
  bool one_thread = false;  // also time one thread
  double seconds = 0.5;     // approximate time budget of the measurement

  // The broadcast shape; view[kOut] holds it even if the operator writes no elementwise output.
  const Shape& shape() const { return view[kOut].shape; }
  int64_t numel() const;
  bool present(int operand) const;
  DType dtype_of(int operand) const { return operand == kW ? weight_dtype : dtype; }
};

struct Pointers {
  const char* in[kInputs];  // grad_output, input, target, weight
  char* out;                // grad_input, or the elementwise loss
  char* loss;               // of the case's dtype
};

Case make_case(std::string group, Op op, DType dtype, const std::string& layout_and_size, View g, View x,
               View y, View out);
Case with_weight(Case c, View weight, DType dtype);
Case with_axis(Case c, View loss);  // one loss for each slice

const char* short_name(DType dtype);  // "f32"

// Strides of each operand in the dimensions of the case's shape: 0 where it broadcasts.
struct BroadcastStrides {
  int64_t of[kOperands][mseloss::kMaxRank];
};
BroadcastStrides broadcast_strides(const Case& c);

// Memory traffic of a case. Operands with less than a sixteenth of the largest operand's bytes do not count
// as streams.
struct Traffic {
  int reads = 0, writes = 0;
  int64_t bytes = 0;  // in the cache lines that all operands touch
  int streams() const { return reads + writes; }
};
Traffic traffic(const Case& c);

// Size of the smallest arena that holds the view.
int64_t required_bytes(const View& view, DType dtype);

std::vector<Case> fixed_cases(bool quick);
std::vector<Case> random_cases(int count, unsigned seed);

}  // namespace bench
