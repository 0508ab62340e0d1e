#include "tests/fuzz/aclnn_machine.h"

#include <cstring>

namespace fuzz {

Machine::Machine(Input& input, Arena* buffers, Exchange* exchange)
    : in_(input), buffers_(buffers), exchange_(exchange) {
  FUZZ_REQUIRE(aclrtSetDevice(0) == ACL_SUCCESS, "%s", aclGetRecentErrMsg());
  default_context_.live = true;
  context_ = &default_context_;
  // A device that another thread resets takes its context with it.
  const int code = aclrtGetCurrentContext(&default_context_.handle);
  FUZZ_REQUIRE(code == ACL_SUCCESS || exchange != nullptr, "%s", aclGetRecentErrMsg());
}

void Machine::run(int most_steps) {
  static const Step kSteps[] = {
      &Machine::create_tensor,
      &Machine::create_tensor,
      &Machine::create_tensor,
      &Machine::create_tensor,
      &Machine::initialise_tensor,
      &Machine::destroy_tensor,
      &Machine::query_tensor,
      &Machine::set_raw_address,
      &Machine::lists,
      &Machine::arrays,
      &Machine::prepare,
      &Machine::prepare,
      &Machine::prepare,
      &Machine::prepare,
      &Machine::launch,
      &Machine::launch,
      &Machine::launch,
      &Machine::launch,
      &Machine::set_repeatable,
      &Machine::destroy_executor,
      &Machine::set_address,
      &Machine::create_stream,
      &Machine::create_stream,
      &Machine::destroy_stream,
      &Machine::synchronize,
      &Machine::query_stream,
      &Machine::create_event,
      &Machine::create_event,
      &Machine::destroy_event,
      &Machine::record_event,
      &Machine::record_event,
      &Machine::wait_event,
      &Machine::reset_event,
      &Machine::query_event,
      &Machine::create_context,
      &Machine::destroy_context,
      &Machine::select_context,
      &Machine::device,
      &Machine::allocate,
      &Machine::free_block,
      &Machine::copy_and_fill,
      &Machine::callbacks,
      &Machine::host_function,
      &Machine::settings,
  };
  while (most_steps-- > 0 && !in_.empty()) (this->*in_.pick(kSteps))();
}

Machine::~Machine() {
  const auto each = [&](Kind kind, auto destroy) {
    for (Slot& each : slots_[kind]) {
      if (!each.live) continue;
      const int code = destroy(each.handle);
      FUZZ_REQUIRE(code == 0 || !alone(), "kind %d: %s", kind, aclGetRecentErrMsg());
    }
  };
  each(kList, [&](void* handle) {
    const int code = aclDestroyTensorList(static_cast<aclTensorList*>(handle));
    return alone() ? code * 0 : code;  // elements may have been destroyed before, or be in two lists
  });
  for (Slot& tensor : slots_[kTensor]) {
    if (tensor.live) (void)aclDestroyTensor(static_cast<aclTensor*>(tensor.handle));
  }
  each(kExecutor, [](void* handle) { return aclDestroyAclOpExecutor(static_cast<aclOpExecutor*>(handle)); });
  each(kArray, [](void* handle) { return aclDestroyIntArray(static_cast<aclIntArray*>(handle)); });
  each(kScalar, [](void* handle) { return aclDestroyScalar(static_cast<aclScalar*>(handle)); });
  each(kBlock, aclrtFree);
  each(kStream, [&](void* handle) {
    return in_.below(2) == 0 ? aclrtDestroyStream(handle) : aclrtDestroyStreamForce(handle);
  });
  each(kContext, aclrtDestroyContext);
  each(kEvent, aclrtDestroyEvent);
  for (; users_ > 0; --users_) {
    const int code = aclrtResetDevice(0);
    FUZZ_REQUIRE(code == ACL_SUCCESS || !alone(), "%s", aclGetRecentErrMsg());
  }
}

void Machine::done(int code, const char* call) {
  ++calls;
  if (code == 0) return;
  ++failures;
  const char* message = aclGetRecentErrMsg();
  FUZZ_REQUIRE(message != nullptr && *message != '\0', "%s: %d without a message", call, code);
}

void Machine::expect(int code, bool success, const char* call) {
  ++calls;
  const char* message = code == 0 ? "" : aclGetRecentErrMsg();
  failures += code != 0;
  FUZZ_REQUIRE(code == 0 || *message != '\0', "%s: %d without a message", call, code);
  if (!alone()) return;
  FUZZ_REQUIRE((code == 0) == success, "%s: %d (%s), expected %s", call, code, message,
               success ? "success" : "a failure");
}

void Machine::created(Kind kind, Slot& slot, void* handle) {
  slot = {};
  slot.handle = handle;
  slot.live = true;
  if (exchange_ != nullptr) (*exchange_)[kind][static_cast<size_t>(in_.below(8))] = handle;
}

void* Machine::choose(Kind kind, Slot** slot) {
  const int how = in_.byte();
  Slot& own = this->slot(kind);
  *slot = nullptr;
  if (how >= 252) {
    // The fuzzer learns from comparisons, so it can guess a live handle.
    void* const invented = reinterpret_cast<void*>(in_.word());
    for (const auto& slots : slots_)
      for (const Slot& each : slots)
        if (each.handle == invented) return nullptr;
    return invented == default_context_.handle ? nullptr : invented;
  }
  if (how >= 248) return nullptr;
  if (how >= 244) return this->slot(static_cast<Kind>((kind + 1 + how % 2) % kKinds)).handle;
  if (how >= 150 && exchange_ != nullptr && kind != kBlock)
    return (*exchange_)[kind][static_cast<size_t>(in_.below(8))];
  *slot = &own;
  if (how < 225) {  // a live one, if there is one
    for (size_t i = 0, first = static_cast<size_t>(&own - slots_[kind]); i < kSlots; ++i) {
      Slot& each = slots_[kind][(first + i) % kSlots];
      if (!each.live) continue;
      *slot = &each;
      break;
    }
  }
  return (*slot)->handle;
}

aclrtStream Machine::choose_stream(Slot** stream) {
  if (in_.byte() < 100) {
    *stream = context_;
    return nullptr;
  }
  void* const handle = choose(kStream, stream);
  if (handle == nullptr && context_ != nullptr) *stream = context_;
  return handle;
}

bool Machine::usable(const Slot* stream) const {
  if (stream == nullptr || context_ == nullptr || !context_->live || !stream->live) return false;
  return stream == context_ || stream->context == context_->handle;
}

bool Machine::quiet() const {
  if (blocking_callback_ || default_context_.blocked) return false;
  for (const Kind kind : {kStream, kContext})
    for (const Slot& each : slots_[kind])
      if (each.live && each.blocked) return false;
  return true;
}

char* Machine::address() {
  Arena& buffer = buffers_[in_.below(kBuffers)];
  const int where = in_.byte();
  char* const last = buffer.end() - kStorage;
  return where < 200 ? last : last - where;
}

}  // namespace fuzz
