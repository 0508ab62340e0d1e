#include "cpu/schedule/policy.h"

#include <algorithm>

#include "mseloss/mseloss.h"

namespace mseloss::cpu {

int thread_count(const Plan& plan, const Options& options) {
  constexpr int64_t kBytesPerThread = 256 * 1024;  // takes less time than starting a second thread
  constexpr int64_t kBytesPerSlice = 64;           // take as much time as the rounding of its sum
  static_assert(kOperands * size_of(DType::kFloat64) <= 64);
  if (plan.numel < kBytesPerThread / 64) return 1;
  int64_t bytes = 0;
  for_each_operand(plan, [&](int o) { bytes += size_of(plan.dtypes[o]); });
  bytes = std::max<int64_t>(bytes, 1);
  const int64_t most = options.threads > 0 ? options.threads : max_threads();
  if (plan.sliced) bytes += kBytesPerSlice / (plan.numel / plan.slices);
  if (plan.numel > INT64_MAX / bytes) return static_cast<int>(most);
  return static_cast<int>(std::clamp<int64_t>(plan.numel * bytes / kBytesPerThread, 1, most));
}

// A non-temporal store saves reading the output's line before it is overwritten, but leaves the output in
// memory instead of the caches. An output that makes up most of the traffic is worth caching as long as all
// operands fit the last-level cache; others use non-temporal stores from kMinOutputBytes on. General layouts
// mostly do not access every operand in address order and use the cache less well. docs/performance_method.md
// has the measurements.
bool uses_non_temporal_stores(const Plan& plan, const Options& options) {
  constexpr int64_t kMinOutputBytes = 8 << 20;
  constexpr double kCacheBytes = 28 << 20, kGeneralCacheBytes = 18 << 20;
  if (!has(plan, kOut) || options.store == Options::Store::kCached) return false;
  if (options.store == Options::Store::kNonTemporal) return true;
  if (plan.numel < kMinOutputBytes >> log2_size_of(plan.dtype)) return false;
  double bytes[kOperands] = {}, all = 0;
  for_each_operand(plan, [&](int o) {
    bytes[o] = size_of(plan.dtypes[o]);
    for (int d = 0; d < plan.rank; ++d) {
      if (plan.stride[o][d] != 0) bytes[o] *= static_cast<double>(plan.extent[d]);
    }
    all += bytes[o];
  });
  return all >= 3 * bytes[kOut] ||
         all >= (plan.layout == Layout::kGeneral ? kGeneralCacheBytes : kCacheBytes);
}

}  // namespace mseloss::cpu
