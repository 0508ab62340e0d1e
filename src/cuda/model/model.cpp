#include "cuda/model/model.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "backend.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"
#include "plan/parts.h"

namespace mseloss::cuda::model {
namespace {

constexpr uint64_t kMapBytes = uint64_t{1} << 24;  // larger operands are checked by their range only

thread_local const Table* t_table = nullptr;
thread_local std::string t_error;  // of the last launch; driver functions return texts that stay valid
thread_local int t_allocations = 0;

const char* enter(int index, DeviceInfo* info, int* previous) {
  if (index > 0) return "invalid device ordinal";
  const Settings& settings = Machine::current().settings;
  *info = {0, settings.multiprocessors, settings.min_terms, settings.max_blocks, "model"};
  *previous = 0;
  return nullptr;
}
void leave(int) {}
const char* describe(DeviceInfo*) { return nullptr; }
bool accessible(const void*) { return true; }

const char* allocate(size_t bytes, void*, void** address) {
  if (t_allocations++ == Machine::current().settings.fail_allocation) return "out of memory";
  *address = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*address == nullptr) return "out of memory";
  Machine::current().add_scratch(*address, bytes);
  return nullptr;
}
void release(void* address, void*) {
  Machine::current().remove_scratch(address);
  std::free(address);
}
const char* zero(void* address, size_t bytes, void*) {
  Machine::current().zero_scratch(address, bytes);
  return nullptr;
}

const char* launch(Kernel kernel, Grid grid, const void* arguments, void*) {
  const Entry& entry = t_table->entry[kernel];
  if (entry.call == nullptr) return "the kernel does not exist";
  t_error = Machine::current().run(grid.x, grid.y, kThreads, entry.call, entry.function, arguments);
  return t_error.empty() ? nullptr : t_error.c_str();
}

const char* copy(void* to, const void* from, size_t bytes, void*) {
  std::memcpy(to, from, bytes);
  Machine::current().mark_scratch(to, bytes);
  return nullptr;
}
const char* wait(void*) { return nullptr; }

constexpr Driver kDriver{MSELOSS_VERSION, enter, leave,  describe, accessible, allocate,
                         release,         zero,  launch, copy,     wait};

// The region of an operand, with the bytes of its elements; strides and offset in bytes.
Region operand_region(const char* name, const void* data, int rank, const int64_t* extent,
                      const int64_t* stride, int64_t offset, int size) {
  Region region;
  region.name = name;
  int64_t low = offset, high = offset + size;
  for (int d = 0; d < rank; ++d) {
    const int64_t reach = stride[d] * (extent[d] - 1);
    (reach < 0 ? low : high) += reach;
  }
  region.base = reinterpret_cast<uintptr_t>(data) + static_cast<uint64_t>(low);
  region.bytes = static_cast<uint64_t>(high - low);
  if (region.bytes > kMapBytes) return region;
  region.map.resize(region.bytes);
  int64_t index[kMaxRank] = {}, at = offset - low;
  for (;;) {
    std::fill_n(region.map.begin() + at, size, 1U);
    int d = rank - 1;
    for (; d >= 0; --d) {
      if (stride[d] == 0) continue;
      at += stride[d];
      if (++index[d] < extent[d]) break;
      at -= stride[d] * extent[d];
      index[d] = 0;
    }
    if (d < 0) return region;
  }
}

// `operands` are those that are accessed; `result`: the sum is written to an operand.
void watch(const Plan& plan, const Buffers& buffers, unsigned operands, bool result) {
  Machine& machine = Machine::current();
  const auto add = [&](int o, DType dtype, bool is_result) {
    int64_t stride[kMaxRank] = {};
    const int size = size_of(dtype);
    const bool slices = o == kLossOut && plan.sliced;
    const bool nested = !is_result || slices;
    for (int d = 0; nested && d < plan.rank; ++d) stride[d] = plan.stride[o][d] * size;
    Region region = operand_region(kNames.of[o], buffers[o], nested ? plan.rank : 0, plan.extent, stride,
                                   nested ? plan.offset[o] * size : 0, size);
    region.writable = o >= kOut;
    region.rewritable = is_result;
    region.optional = o == kOut && plan.holds_unit_gradient;
    machine.regions.push_back(std::move(region));
  };
  machine.regions.clear();
  if (plan.numel != 0) {
    for_each_operand(plan, [&](int o) {
      const bool accessed = (operands >> o & 1) != 0;
      if (accessed && !(plan.sliced && o == kLossOut)) add(o, plan.dtypes[o], false);
    });
  }
  if (!result) return;
  if (plan.sliced && plan.slices == 0) return;
  add(plan.sliced ? kLossOut : loss_operand(plan), plan.loss_dtype, true);
}

// After the last launch: every output element was written, and no scratch memory is left.
Status check_end() {
  Machine& machine = Machine::current();
  if (machine.live_scratch() != 0) return Status::error(Code::kDevice, "cuda-model: scratch memory leaks");
  if (machine.settings.only_blocks != 0) return {};
  for (const Region& region : machine.regions) {
    for (size_t i = 0; region.writable && !region.optional && i < region.map.size(); ++i) {
      if (region.map[i] != 1) continue;
      return Status::error(Code::kDevice, "cuda-model: byte %zu of %s was not written", i,
                           region.name.c_str());
    }
  }
  return {};
}

// Calls run(driver) with the operands registered, and checks what it leaves.
template <class Run>
Status checked(const Table& table, const Plan& plan, const Buffers& buffers, unsigned operands, bool result,
               Run run) try {
  const FloatEnvironment environment;
  const Driver& model = driver(table);
  watch(plan, buffers, operands, result);
  Status status = run(model);
  if (status.ok()) status = check_end();
  Machine::current().regions.clear();
  return status;
} catch (const std::bad_alloc&) {
  Machine::current().regions.clear();
  return Status::error(Code::kOutOfMemory, "cuda-model: out of memory");
}

Status run_on_model(const Plan& plan, const Buffers& buffers, const Options& options) {
  return run(kernels(), plan, buffers, options);
}

Status sum_on_model(const Plan& plan, const Buffers& buffers, const SumRequest& request,
                    const Options& options, const SumTarget& target) {
  return sum(kernels(), plan, buffers, request, options, target);
}

Status copy_on_model(void* to, const void* from, size_t bytes, bool wait, const Options& options) {
  return cuda::copy(driver(kernels()), to, from, bytes, wait, options);
}

// MSELOSS_DEVICE, read when the library is loaded.
const Backend kBackend{"cuda-model", &run_on_model, &sum_on_model, &copy_on_model};
[[maybe_unused]] const bool g_selected = [] {
  const char* name = std::getenv("MSELOSS_DEVICE");
  if (name != nullptr && std::strcmp(name, kBackend.name) == 0) host_backend = &kBackend;
  return true;
}();

}  // namespace

const Driver& driver(const Table& table) {
  t_table = &table;
  t_allocations = 0;
  return kDriver;
}

Status run(const Table& table, const Plan& plan, const Buffers& buffers, const Options& options) {
  return checked(table, plan, buffers, plan.operands, has_sum(plan),
                 [&](const Driver& model) { return enqueue(model, plan, buffers, options); });
}

Status sum(const Table& table, const Plan& plan, const Buffers& buffers, const SumRequest& request,
           const Options& options, const SumTarget& target) {
  return checked(table, plan, buffers, operands_of(plan, request), false, [&](const Driver& model) {
    return cuda::sum(model, plan, buffers, request, options, target);
  });
}

}  // namespace mseloss::cuda::model
