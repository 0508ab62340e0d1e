// Which instruction-set target runs: the best one, or what MSELOSS_TARGET or set_target() say.
#include "cpu/targets.h"  // before Highway

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cpu/kernels.h"
#include "mseloss/mseloss.h"

namespace mseloss {
namespace cpu {

void fill_elementwise_kernels(Kernels* kernels, size_t target, bool rounds_bfloat16);
void fill_interleave_kernels(Kernels* kernels, size_t target);
void fill_runs_kernels(Kernels* kernels, size_t target);
void fill_sum_kernels(Kernels* kernels, size_t target, bool rounds_bfloat16);
void fill_transpose_kernels(Kernels* kernels, size_t target);

namespace {

struct Target {
  const char* name;
  Kernels kernels;
};

// All targets that this processor can run, best first, filled once.
struct Targets {
  Target entries[16];
  int count = 0;
  char names[128] = "";
  std::atomic<const Target*> chosen;

  Targets() {
    // Best first, as hwy::SupportedAndGeneratedTargets() lists them, but without its vector: the first call
    // must not throw.
    for (int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
      const int64_t bit = rest & -rest;
#if HWY_ARCH_X86
      if (bit == HWY_AVX3 && __builtin_cpu_supports("avx512bf16")) add("AVX3_BF16", bit, true);
#endif
      add(hwy::TargetName(bit), bit, false);
    }
    chosen = &entries[0];
    // An unknown name is ignored here, where nobody could be told; info and target() show what runs.
    if (const char* wanted = std::getenv("MSELOSS_TARGET")) choose(wanted);
  }

  void add(const char* name, int64_t bit, bool rounds_bfloat16) {
    hwy::ChosenTarget only;
    only.Update(bit);
    const size_t target = only.GetIndex();
    Target& entry = entries[count++];
    entry.name = name;
    fill_elementwise_kernels(&entry.kernels, target, rounds_bfloat16);
    fill_interleave_kernels(&entry.kernels, target);
    fill_runs_kernels(&entry.kernels, target);
    fill_sum_kernels(&entry.kernels, target, rounds_bfloat16);
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
