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

void fill_elementwise_kernels(Kernels* kernels, size_t target);
void fill_interleave_kernels(Kernels* kernels, size_t target);
void fill_runs_kernels(Kernels* kernels, size_t target);
void fill_sum_kernels(Kernels* kernels, size_t target);
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
      hwy::ChosenTarget only;
      only.Update(bit);
      Target& entry = entries[count++];
      entry.name = hwy::TargetName(bit);
      fill_elementwise_kernels(&entry.kernels, only.GetIndex());
      fill_interleave_kernels(&entry.kernels, only.GetIndex());
      fill_runs_kernels(&entry.kernels, only.GetIndex());
      fill_sum_kernels(&entry.kernels, only.GetIndex());
      fill_transpose_kernels(&entry.kernels, only.GetIndex());
      if (count > 1) std::strncat(names, " ", sizeof(names) - std::strlen(names) - 1);
      std::strncat(names, entry.name, sizeof(names) - std::strlen(names) - 1);
    }
    chosen = &entries[0];
    // An unknown name is ignored here, where nobody could be told; info and target() show what runs.
    if (const char* wanted = std::getenv("MSELOSS_TARGET")) choose(wanted);
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
