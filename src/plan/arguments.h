// Checks shared by all operators: arguments with their names, shapes and error texts.
#pragma once

#include <cstdio>
#include <span>

#include "plan/overlap.h"
#include "plan/plan.h"

namespace mseloss {

using View = BasicTensor<const void>;

// A shape as text, for example "(2, 3)". The buffer is fixed, so that error texts need no allocation; extents
// that do not fit are replaced by their number.
struct ShapeText {
  char text[128];
  ShapeText(const int64_t* extents, int rank) {
    constexpr size_t kReserve = 48;  // for one extent, the count and the closing parenthesis
    size_t used = std::snprintf(text, sizeof(text), "(");
    int i = 0;
    for (; i < rank && used + kReserve < sizeof(text); ++i) {
      used += std::snprintf(text + used, sizeof(text) - used, "%s%lld", i == 0 ? "" : ", ",
                            static_cast<long long>(extents[i]));
    }
    if (i < rank) used += std::snprintf(text + used, sizeof(text) - used, ", and %d more", rank - i);
    std::snprintf(text + used, sizeof(text) - used, ")");
  }
  explicit ShapeText(const View& view) : ShapeText(view.shape.data(), static_cast<int>(view.shape.size())) {}
};

struct Argument {
  const View* view;
  const char* name;
  Operand operand;
};
using Arguments = std::span<const Argument>;

struct BroadcastShape {
  int rank = 0;
  int64_t extent[kMaxRank];
  int64_t count = 1;
};

// Every error names the parameter, what was expected and what was given.
Status dtype_error(const Argument& argument);
Status reduction_error(Reduction reduction);
Status check_rank(const Argument& argument);
// Also checks that element and byte counts fit in int64_t, so that later products do not overflow.
Status check_extents(const Argument& argument);
Status broadcast(Arguments arguments, BroadcastShape* shape);
Status check_output_shape(const Argument& out, const BroadcastShape& shape);
Status check_scalar_output(const Argument& out);
Status self_overlap_error(const Argument& out);
Status overlap_error(const char* out, const char* other, bool exact_allowed);

// The memory that the plan accesses for an operand at `data`.
ByteView byte_view(const Plan& plan, int operand, const void* data);

// Removes dimensions of extent 1, reverses those in which the output's stride is negative, orders the rest
// and merges adjacent ones.
void coalesce(Plan* plan);

}  // namespace mseloss
