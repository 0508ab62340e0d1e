// Selects the instruction-set target: the best one, or the one that MSELOSS_TARGET or set_target() names.
#include "cpu/kernels/highway_targets.h"  // before Highway

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cpu/kernels/kernels.h"
#include "mseloss/mseloss.h"

namespace mseloss {
namespace cpu {

namespace {

struct Target {
  const char* name;
  Kernels kernels;
};

template <DType kDType>
void fill_dtype_kernels(Kernels* kernels, size_t target, bool native_bfloat16) {
  fill_elementwise_kernels<kDType>(kernels, target, native_bfloat16);
  fill_sum_kernels<kDType>(kernels, target, native_bfloat16);
}

// All targets that this processor can run, best first, filled once.
struct Targets {
  Target entries[16];
  int count = 0;
  char names[128] = "";
  std::atomic<const Target*> chosen;

  Targets() {
    // The order of hwy::SupportedAndGeneratedTargets(), without its std::vector: the first call must not
    // throw.
    for (int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
      const int64_t bit = rest & -rest;
#if HWY_ARCH_X86
      if (bit == HWY_AVX3 && __builtin_cpu_supports("avx512bf16")) add("AVX3_BF16", bit, true);
#endif
      add(hwy::TargetName(bit), bit, false);
    }
    chosen = &entries[0];
    // There is no way to report an unknown name here, so it is ignored; target() shows what runs.
    if (const char* wanted = std::getenv("MSELOSS_TARGET")) choose(wanted);
  }

  void add(const char* name, int64_t bit, bool native_bfloat16) {
    hwy::ChosenTarget only;
    only.Update(bit);
    const size_t target = only.GetIndex();
    Target& entry = entries[count++];
    entry.name = name;
    fill_dtype_kernels<DType::kFloat32>(&entry.kernels, target, native_bfloat16);
    fill_dtype_kernels<DType::kFloat16>(&entry.kernels, target, native_bfloat16);
    fill_dtype_kernels<DType::kBFloat16>(&entry.kernels, target, native_bfloat16);
    fill_dtype_kernels<DType::kFloat64>(&entry.kernels, target, native_bfloat16);
    fill_copy_kernels(&entry.kernels, target);
    fill_interleave_kernels(&entry.kernels, target);
    fill_replicate_kernels(&entry.kernels, target);
    fill_transpose_kernels(&entry.kernels, target);
    if (count > 1) std::strncat(names, " ", sizeof(names) - std::strlen(names) - 1);
    std::strncat(names, name, sizeof(names) - std::strlen(names) - 1);
  }

  bool choose(const char* name) {
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(entries[i].name, name) != 0) continue;
      chosen = &entries[i];
      return true;
    }
    return false;
  }
};

Targets& targets() {
  static Targets all;
  return all;
}

}  // namespace

const Kernels& kernels() { return targets().chosen.load(std::memory_order_relaxed)->kernels; }

}  // namespace cpu

const char* target() { return cpu::targets().chosen.load()->name; }
const char* supported_targets() { return cpu::targets().names; }

Status set_target(const char* name) {
  cpu::Targets& all = cpu::targets();
  if (name == nullptr) {
    all.chosen = &all.entries[0];
    return {};
  }
  if (all.choose(name)) return {};
  return Status::error(Code::kTarget, "target: expected one that this processor can run (%s), got \"%.64s\"",
                       all.names, name);
}

}  // namespace mseloss
