// Plain DataCopy, and what the scalar unit does: single elements and its cache.
#include <cstring>

#include "model/units.h"

namespace ascend_model {
namespace {

CopyShape Whole(uint32_t count, uint32_t element_bytes) {
  const uint64_t bytes = uint64_t{count} * element_bytes;
  if (bytes % Core::kGranule != 0) {
    Core::Current().Fail(11, "DataCopy of " + std::to_string(bytes) +
                                 " bytes moves whole 32-byte blocks only: the rest is lost");
  }
  return {1, static_cast<uint32_t>(bytes), 0, 0, element_bytes, false, 0, 0, 0};
}

uint32_t Locate(Core& core, const TensorRef& tensor, uint32_t offset, uint32_t bytes) {
  if (tensor.buffer < 0) {
    core.Fail(4, "a tensor that was never allocated");
  }
  const Buffer& buffer = core.buffer(tensor.buffer);
  if (buffer.position != Position::kVecCalc) {
    const bool usable = buffer.state == BufferState::kDequeued || buffer.position == Position::kVecOut;
    if (buffer.generation != tensor.generation || buffer.state == BufferState::kFree || !usable) {
      core.Fail(4, "an element of a tensor that is not dequeued");
    }
  }
  const uint64_t at = uint64_t{tensor.start} + offset;
  if (at < buffer.start || at + bytes > uint64_t{buffer.start} + buffer.bytes) {
    core.Fail(3, "element at UB byte " + std::to_string(at) + " is outside its buffer");
  }
  return static_cast<uint32_t>(at);
}

}  // namespace

void PlainCopyToLocal(TensorRef dst, uintptr_t src, uint32_t count, uint32_t element_bytes) {
  CopyToLocal("DataCopy", dst, src, Whole(count, element_bytes));
}

void PlainCopyToGlobal(uintptr_t dst, TensorRef src, uint32_t count, uint32_t element_bytes) {
  CopyToGlobal("DataCopy", dst, src, Whole(count, element_bytes));
}

void ScalarRead(TensorRef src, uint32_t offset, void* value, uint32_t bytes) {
  Core& core = Core::Current();
  core.Issue(kScalar, "GetValue");
  const uint32_t at = Locate(core, src, offset, bytes);
  core.Read(at, bytes);
  std::memcpy(value, core.ub() + at, bytes);
  core.Retire(core.options().timing.scalar_issue, 0);
}

void ScalarWrite(TensorRef dst, uint32_t offset, const void* value, uint32_t bytes) {
  Core& core = Core::Current();
  core.Issue(kScalar, "SetValue");
  const uint32_t at = Locate(core, dst, offset, bytes);
  core.Write(at, bytes);
  std::memcpy(core.ub() + at, value, bytes);
  core.Retire(core.options().timing.scalar_issue, 0);
}

void ScalarReadGlobal(uintptr_t src, void* value, uint32_t bytes) {
  Core& core = Core::Current();
  core.Issue(kScalar, "GlobalTensor::GetValue");
  core.memory().CheckRead("GlobalTensor::GetValue", src, bytes, core.options().block);
  core.CacheRead(src, value, bytes);
  core.Retire(core.options().timing.copy_latency, 0);
}

void ScalarWriteGlobal(uintptr_t dst, const void* value, uint32_t bytes) {
  Core& core = Core::Current();
  core.Issue(kScalar, "GlobalTensor::SetValue");
  core.memory().Write("GlobalTensor::SetValue", dst, bytes, core.options().block);
  core.CacheWrite(dst, value, bytes);
  core.Retire(core.options().timing.scalar_issue, 0);
}

void CleanCacheLine(uintptr_t address) {
  Core& core = Core::Current();
  core.Issue(kScalar, "DataCacheCleanAndInvalid");
  core.CacheClean(address);
  core.Retire(core.options().timing.copy_latency, 0);
}

}  // namespace ascend_model
