// What the checks of a call's arguments share: an argument's name and view, and its shape in words.
#pragma once

#include <cstdio>

#include "plan/overlap.h"
#include "plan/plan.h"

namespace mseloss {

using View = BasicTensor<const void>;

// "(2, 3)"; extents beyond what fits are counted: an error text has no memory of its own.
struct ShapeText {
  char text[128];
  ShapeText(const int64_t* extents, int rank) {
    constexpr size_t kRoom = 48;  // for an extent, a count and the end
    size_t used = std::snprintf(text, sizeof(text), "(");
    int i = 0;
    for (; i < rank && used + kRoom < sizeof(text); ++i) {
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

struct BroadcastShape {
  int rank = 0;
  int64_t extent[kMaxRank];
  int64_t count = 1;
};

// Each names the parameter, what was expected and what was given.
Status dtype_error(const Argument& argument);
Status check_reduction(Reduction reduction);
Status check_rank(const Argument& argument);
Status check_extents(const Argument& argument);  // also refuses what no memory could hold: later products fit
Status broadcast(const Argument* arguments, int count, BroadcastShape* shape);
Status check_output_shape(const Argument& out, const BroadcastShape& shape);
Status check_scalar_output(const Argument& out);

// The operand as the plan walks it, at `data`.
ByteView byte_view(const Plan& plan, int operand, const void* data);

// Drops dimensions of one element, turns those the output walks backwards, orders and merges the rest.
void coalesce(Plan* plan);

}  // namespace mseloss
