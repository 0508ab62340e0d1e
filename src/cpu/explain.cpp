#include "cpu/explain.h"

#include "cpu/schedule/policy.h"
#include "cpu/schedule/tiling.h"
#include "mseloss/mseloss.h"

namespace mseloss::cpu {

std::string explain(const Plan& given, const Options& options) {
  if (given.numel == 0) return "no elements: nothing to do";
  Plan plan = given;
  add_unit_dimension(&plan);
  std::string text = plan.layout == Layout::kDense  ? "dense"
                     : plan.layout == Layout::kRows ? "rows"
                                                    : "general";
  text += ": " + std::to_string(plan.numel) + " elements as (";
  for (int d = 0; d < plan.rank; ++d) text += (d == 0 ? "" : ", ") + std::to_string(plan.extent[d]);
  text += ")";
  if (plan.layout != Layout::kDense) {
    const Tiling tiling =
        make_tiling(plan, uses_non_temporal_stores(plan, options), thread_count(plan, options));
    text += " in tiles of (";
    for (int d = 0; d < plan.rank; ++d) text += (d == 0 ? "" : ", ") + std::to_string(tiling.tile_extent[d]);
    text += ")";
    for (int o = 0; o < kOperands; ++o) {
      if (has(plan, o)) text += std::string(", ") + kNames.of[o] + (tiling.direct[o] ? " direct" : " packed");
    }
  }
  text += std::string(", ") + (uses_non_temporal_stores(plan, options) ? "non-temporal" : "cached") +
          " stores, at most " + std::to_string(thread_count(plan, options)) + " threads, target " + target();
  return text;
}

}  // namespace mseloss::cpu
