// The part of PyTorch's stable C interface that this module uses (torch/csrc/stable/c/shim.h and
// torch/csrc/inductor/aoti_torch/c/shim.h). The functions are found at run time, so this module needs no
// PyTorch to be built and works with every release that has them.
#pragma once

#include <cstdint>

namespace mseloss::python {

using TorchTensor = struct OpaqueTorchTensor*;
using TorchLibrary = struct OpaqueTorchLibrary*;
using TorchValue = uint64_t;  // an argument or result of an operator; a tensor is an owned TorchTensor
using TorchKernel = void (*)(TorchValue* stack, uint64_t arguments, uint64_t results);

// The release whose conventions for TorchValue this module follows, 2.11, as PyTorch encodes it.
inline constexpr uint64_t kTorchVersion = (uint64_t{2} << 56) | (uint64_t{11} << 48);

// An int32_t result is 0 for success, except of the functions without parameters, which return PyTorch's
// number of a dtype, a device type or a layout.
struct TorchFunctions {
  // Since 2.10.
  int32_t (*parallel_for)(int64_t begin, int64_t end, int64_t grain_size,
                          void (*range)(int64_t begin, int64_t end, void* context), void* context);
  int32_t (*get_num_threads)(uint32_t* count);
  // All of the following exist since 2.11; if one is missing, from_blob is null.
  int32_t (*from_blob)(void* data, int64_t rank, const int64_t* sizes, const int64_t* strides, int64_t offset,
                       int32_t dtype, int32_t device_type, int32_t device_index, TorchTensor* result,
                       int32_t layout, const uint8_t* metadata, int64_t metadata_size,
                       void (*deleter)(void* data, void* context), void* context);
  int32_t (*empty_strided)(int64_t rank, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                           int32_t device_type, int32_t device_index, TorchTensor* result);
  int32_t (*delete_tensor)(TorchTensor tensor);
  int32_t (*new_tensor_handle)(TorchTensor tensor, TorchTensor* result);  // of the same tensor
  int32_t (*get_dim)(TorchTensor tensor, int64_t* rank);
  int32_t (*get_sizes)(TorchTensor tensor, int64_t** sizes);
  int32_t (*get_strides)(TorchTensor tensor, int64_t** strides);
  int32_t (*get_dtype)(TorchTensor tensor, int32_t* dtype);
  int32_t (*get_const_data_ptr)(TorchTensor tensor, const void** data);
  int32_t (*get_mutable_data_ptr)(TorchTensor tensor, void** data);
  int32_t (*call_dispatcher)(const char* name, const char* overload, TorchValue* stack, uint64_t version);
  int32_t (*library_init)(const char* name, const char* key, const char* file, uint32_t line,
                          TorchLibrary* library);
  int32_t (*delete_library)(TorchLibrary library);
  int32_t (*library_impl)(TorchLibrary library, const char* name, TorchKernel kernel, uint64_t version);
  void (*check)(bool condition, const char* function, const char* file, uint32_t line, const char* message);
  int32_t (*float32)();
  int32_t (*float16)();
  int32_t (*bfloat16)();
  int32_t (*float64)();
  int32_t (*int64)();
  int32_t (*boolean)();
  int32_t (*cpu)();
  int32_t (*strided)();

  bool has_kernels() const { return from_blob != nullptr; }
  bool has_threads() const { return parallel_for != nullptr && get_num_threads != nullptr; }
};

// Null if PyTorch is not loaded. Thread-safe.
const TorchFunctions* torch_functions() noexcept;

}  // namespace mseloss::python
