// Selects the instruction-set target: the best one, or the one that MSELOSS_TARGET or set_target() names.
#include "cpu/kernels/highway_targets.h"  // before Highway

#include <pthread.h>

#include <hwy/highway.h>
#include <hwy/targets.h>

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "cpu/kernels/kernels.h"
#include "cpu/thread_pool.h"
#include "mseloss/mseloss.h"

namespace mseloss {
namespace cpu {

namespace {

struct Target {
  const char* name;
  Kernels kernels;
};

const char* target_variable() {
  const char* name = std::getenv("MSELOSS_TARGET");
  return name == nullptr ? "" : name;
}

#if HWY_ARCH_X86
// By cpuid: __builtin_cpu_supports("avx512bf16") refers to a symbol that not every compiler runtime has.
bool has_avx512_bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & (1u << 5)) != 0;
}
#endif

template <DType kDType>
void fill_dtype_kernels(Kernels* kernels, size_t target, bool native_bfloat16) {
  fill_elementwise_kernels<kDType>(kernels, target, native_bfloat16);
  fill_sums_kernels<kDType>(kernels, target, native_bfloat16);
  fill_slices_kernels<kDType>(kernels, target, native_bfloat16);
  fill_weighted_kernels<kDType>(kernels, target, native_bfloat16);
}

constinit std::atomic<const Target*> g_chosen{nullptr};  // null before the first call

// All targets that this processor can run, best first, filled once.
struct Targets {
  Target entries[16];
  int count = 0;
  char names[128] = "";

  Targets() {
    // The order of hwy::SupportedAndGeneratedTargets(), without its std::vector: the first call must not
    // throw.
    for (int64_t rest = hwy::SupportedTargets() & HWY_TARGETS; rest != 0; rest &= rest - 1) {
      const int64_t bit = rest & -rest;
#if HWY_ARCH_X86
      if (bit == HWY_AVX3 && has_avx512_bf16()) add("AVX3_BF16", bit, true);
#endif
      add(hwy::TargetName(bit), bit, false);
    }
    const Target* wanted = find(target_variable());
    g_chosen = wanted == nullptr ? &entries[0] : wanted;  // check_environment() reports an unknown name
  }

  void add(const char* name, int64_t bit, bool native_bfloat16) {
    hwy::ChosenTarget only;
    only.Update(bit);
    // With a single target, Highway's dispatch tables have one entry.
    const size_t target = (HWY_TARGETS & (HWY_TARGETS - 1)) == 0 ? 0 : only.GetIndex();
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

  const Target* find(const char* name) const {  // null if there is none of this name
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(entries[i].name, name) == 0) return &entries[i];
    }
    return nullptr;
  }
};

// Held during a fork, so that a child never waits for a first call that another thread has begun.
constinit std::mutex g_first_call;
[[maybe_unused]] const int g_registered =
    pthread_atfork([] { g_first_call.lock(); }, [] { g_first_call.unlock(); }, [] { g_first_call.unlock(); });

Targets& targets() {
  const std::lock_guard lock(g_first_call);
  static Targets all;
  return all;
}
const Target& chosen_target() {
  const Target* chosen = g_chosen.load(std::memory_order_acquire);
  if (chosen != nullptr) [[likely]]
    return *chosen;
  targets();
  return *g_chosen.load();
}

}  // namespace

const Kernels& kernels() { return chosen_target().kernels; }

}  // namespace cpu

const char* target() { return cpu::chosen_target().name; }
const char* supported_targets() { return cpu::targets().names; }

Status set_target(const char* name) {
  cpu::Targets& all = cpu::targets();
  if (name == nullptr) {
    cpu::g_chosen = &all.entries[0];
    return {};
  }
  const cpu::Target* wanted = all.find(name);
  if (wanted == nullptr) {
    return Status::error(Code::kTarget,
                         "target: expected one that this processor can run (%s), got \"%.64s\"", all.names,
                         name);
  }
  cpu::g_chosen = wanted;
  return {};
}

Status check_environment() {
  const char* wanted = cpu::target_variable();
  char target[256] = "", threads[128] = "";
  if (*wanted != '\0' && cpu::targets().find(wanted) == nullptr) {
    std::snprintf(target, sizeof(target),
                  "MSELOSS_TARGET: expected a target that this processor can run (%s), got \"%.32s\"",
                  cpu::targets().names, wanted);
  }
  if (int count; !cpu::read_thread_variable(&count)) {
    std::snprintf(threads, sizeof(threads),
                  "MSELOSS_NUM_THREADS: expected a number from 1 to %d, got \"%.32s\"", cpu::kMaxThreads,
                  std::getenv("MSELOSS_NUM_THREADS"));
  }
  if (*target == '\0' && *threads == '\0') return {};
  const char* separator = *target != '\0' && *threads != '\0' ? "; " : "";
  return Status::error(Code::kEnvironment, "%s%s%s", target, separator, threads);
}

}  // namespace mseloss
