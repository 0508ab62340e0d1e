#include "torch/stable.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>

namespace mseloss::python {
namespace {

TorchFunctions functions;
std::atomic<bool> found{false};

// Whether all functions exist; sets each to its address or null.
template <class... Functions>
bool find_all(void* library, const char* const (&names)[sizeof...(Functions)], Functions&... targets) {
  int i = 0;
  ((targets = reinterpret_cast<Functions>(dlsym(library, names[i++]))), ...);
  return ((targets != nullptr) && ...);
}

void find(void* library) {
  TorchFunctions& f = functions;
  find_all(library, {"torch_parallel_for", "torch_get_num_threads"}, f.parallel_for, f.get_num_threads);
  const bool complete =
      find_all(library,
               {"torch_from_blob",
                "aoti_torch_empty_strided",
                "aoti_torch_delete_tensor_object",
                "aoti_torch_new_tensor_handle",
                "aoti_torch_get_dim",
                "aoti_torch_get_sizes",
                "aoti_torch_get_strides",
                "aoti_torch_get_dtype",
                "torch_get_const_data_ptr",
                "torch_get_mutable_data_ptr",
                "torch_call_dispatcher",
                "aoti_torch_library_init_impl",
                "aoti_torch_delete_library_object",
                "torch_library_impl",
                "aoti_torch_check",
                "aoti_torch_dtype_float32",
                "aoti_torch_dtype_float16",
                "aoti_torch_dtype_bfloat16",
                "aoti_torch_dtype_float64",
                "aoti_torch_dtype_int64",
                "aoti_torch_dtype_bool",
                "aoti_torch_device_type_cpu",
                "aoti_torch_layout_strided"},
               f.from_blob, f.empty_strided, f.delete_tensor, f.new_tensor_handle, f.get_dim, f.get_sizes,
               f.get_strides, f.get_dtype, f.get_const_data_ptr, f.get_mutable_data_ptr, f.call_dispatcher,
               f.library_init, f.delete_library, f.library_impl, f.check, f.float32, f.float16, f.bfloat16,
               f.float64, f.int64, f.boolean, f.cpu, f.strided);
  if (!complete) f.from_blob = nullptr;
}

}  // namespace

const TorchFunctions* torch_functions() noexcept {
  if (found.load(std::memory_order_acquire)) return &functions;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (!found.load(std::memory_order_relaxed)) {
    // A handle to the library that `import torch` has loaded, found by its name.
    void* library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return nullptr;
    find(library);
    found.store(true, std::memory_order_release);
  }
  return &functions;
}

}  // namespace mseloss::python
