// A state machine over the acl and aclnn functions. It calls any of them with live, dead and invented
// handles. Alone, it knows which handles are live and which streams may be blocked, hence which calls must
// fail, which must succeed and which results must be there. Beside other machines on other threads, with
// which it shares handles, it checks only what holds then: failures have a message, nothing crashes, nothing
// hangs.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "acl/acl.h"
#include "acl/acl_prof.h"
#include "aclnn/aclnn_base.h"
#include "aclnnop/aclnn_mse_loss.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#include "aclnnop/aclnn_mse_loss_out.h"
#include "opdev/op_errno.h"
#include "tests/fuzz/arena.h"
#include "tests/fuzz/input.h"

namespace fuzz {

using oracle::Shape;

// Tensors lie in the last kBuffer bytes of an arena. Each has kStorage bytes at most after its address.
inline constexpr int kBuffers = 5;
inline constexpr int64_t kBuffer = 4096, kStorage = 1024;

struct Descriptor {
  aclDataType dtype = ACL_FLOAT;
  Shape shape, strides, storage;
  int64_t offset = 0;
  bool plain = false;  // contiguous, of a dtype that the operators take
};

enum Kind { kTensor, kExecutor, kStream, kEvent, kContext, kList, kArray, kScalar, kBlock, kKinds };

struct Slot {
  void* handle = nullptr;
  bool live = false;
  // Tensors. The data pointer outlives the tensor in the executors that use it.
  Descriptor descriptor;
  std::shared_ptr<char*> data;
  // Executors: the tensors as they were in the first phase; the last one is the output.
  int op = 0;
  bool repeatable = false;
  int64_t reduction = 0;
  std::vector<std::pair<Descriptor, std::shared_ptr<char*>>> operands;
  // Streams: their context, and whether they may wait for an event or a callback that never comes.
  // Contexts: the latter for their default stream.
  void* context = nullptr;
  bool blocked = false;
  // Events: recorded on a stream that was not blocked, and not reset since.
  bool recorded = false;
  // Lists.
  std::vector<void*> elements;
};

// Handles that machines on several threads exchange.
using Exchange = std::array<std::array<std::atomic<void*>, 8>, kKinds>;

class Machine {
 public:
  // `exchange` is null if no other machine runs.
  Machine(Input& input, Arena* buffers, Exchange* exchange);
  ~Machine();  // destroys everything
  void run(int most_steps);

  static std::atomic<uint64_t> calls, failures, launches, compared;

 private:
  using Step = void (Machine::*)();
  static constexpr int kSlots = 5;

  // aclnn_tensor_steps.cpp
  void create_tensor();
  void initialise_tensor();
  void destroy_tensor();
  void query_tensor();
  void set_raw_address();
  void lists();
  void arrays();
  // aclnn_operator_steps.cpp
  void prepare();
  void launch();
  void set_repeatable();
  void destroy_executor();
  void set_address();
  // aclnn_runtime_steps.cpp
  void create_stream();
  void destroy_stream();
  void synchronize();
  void query_stream();
  void create_event();
  void destroy_event();
  void record_event();
  void wait_event();
  void reset_event();
  void query_event();
  void create_context();
  void destroy_context();
  void select_context();
  void device();
  void allocate();
  void free_block();
  void copy_and_fill();
  void callbacks();
  void host_function();
  void settings();

  bool alone() const { return exchange_ == nullptr; }
  Slot& slot(Kind kind) { return slots_[kind][static_cast<size_t>(in_.below(kSlots))]; }
  // A handle to pass: mostly the slot's own, else that of another thread, of another kind, or invented. *live
  // is null for those.
  void* choose(Kind kind, Slot** slot);
  // A stream: null is the default one of the current context.
  aclrtStream choose_stream(Slot** stream);
  bool usable(const Slot* stream) const;
  bool quiet() const;  // no stream may be blocked
  char* address();     // with room for kStorage bytes
  Descriptor descriptor();
  void created(Kind kind, Slot& slot, void* handle);

  // What every call is followed by. A failure must have a message.
  void done(int code, const char* call);
  // The same where the outcome is known, if no other machine runs.
  void expect(int code, bool success, const char* call);

  Input& in_;
  Arena* const buffers_;
  Exchange* const exchange_;
  Slot slots_[kKinds][kSlots];
  Slot default_context_;     // the device's
  Slot* context_ = nullptr;  // the current one; null: none
  int users_ = 1;            // aclrtSetDevice calls to undo
  int callbacks_pending_ = 0;
  bool blocking_callback_ = false;  // calls that wait for all work would wait for this thread
};

// The bits of the output's elements, from the operands' current values.
std::vector<uint64_t> expected_results(const Slot& executor);
mseloss::DType core_dtype(aclDataType dtype);
bool has_core_dtype(aclDataType dtype);

}  // namespace fuzz
