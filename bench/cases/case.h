// One thing to measure: an operator on operands of stated layouts.
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

// By position, as everywhere in this folder.
enum Operand : int { kG, kX, kY, kOut, kOperands };

struct View {
  Shape shape, strides;  // strides in elements, of the same rank
  int64_t offset = 0;    // in elements, from the arena's first
};

View dense(Shape shape);
View permuted(const Shape& shape, const std::vector<int>& order);  // dimensions in memory, outermost first
View pitched(Shape shape, int64_t pitch);                          // innermost rows `pitch` elements apart
View every(Shape shape, int64_t step);                             // every step-th column of a wider tensor

struct Case {
  std::string id, group;
  Op op = Op::kGrad;
  DType dtype = DType::kFloat32;
  Reduction reduction = Reduction::kMean;
  View view[kOperands];
  mseloss::Options options;
  bool plain_sum = false;   // compare with a float64 sum of squares instead of a reading loop
  bool one_thread = false;  // time one thread as well
  const char* target = nullptr;
  double seconds = 0.5;  // to spend, about

  int64_t numel() const;
  Shape shape() const { return view[kOut].shape; }
  bool present(int operand) const;
};

const char* short_name(DType dtype);  // "f32"

// What memory has to move for the case: streams of at least a sixteenth of the largest, in cache lines
// touched.
struct Traffic {
  int reads = 0, writes = 0;
  int64_t bytes = 0;  // of all operands together
};
Traffic traffic(const Case& c);

// The bytes an arena needs for the operand.
int64_t reach(const View& view, DType dtype);

std::vector<Case> all_cases(bool quick);
std::vector<Case> random_layouts(int count, unsigned seed);

}  // namespace bench
