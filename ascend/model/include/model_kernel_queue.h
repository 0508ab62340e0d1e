// Part of kernel_operator.h: queues and buffers, which manage the ownership of UB memory.
#pragma once

#include "model_kernel_tensor.h"

namespace AscendC {
inline namespace MODEL_ARCHITECTURE {

struct TQueConfig {
  uint32_t bufferNumber = 0;
  uint32_t bufferLen = 0;
};

class TPipe;

template <TPosition position, int32_t depth, auto mask = 0>
class TQue {
 public:
  template <typename T>
  LocalTensor<T> AllocTensor() {
    model::Core& core = Core();
    const int index = first_ + static_cast<int>(next_);
    next_ = (next_ + 1) % cursor_modulus_;
    core.Alloc(index, kProducer);
    return LocalTensor<T>(Ref(index));
  }
  template <typename T>
  bool EnQue(const LocalTensor<T>& tensor) {
    model::Core& core = Core();
    if (queued_ >= (depth == 0 ? 1 : depth)) {
      core.Fail(5, "more EnQue than the queue's depth without DeQue");
    }
    core.Enqueue(tensor.ref().buffer, kProducer);
    waiting_[(head_ + queued_++) % 8] = tensor.ref().buffer;
    return true;
  }
  template <typename T>
  LocalTensor<T> DeQue() {
    model::Core& core = Core();
    if (queued_ == 0) {
      core.Fail(5, "DeQue of an empty queue");
    }
    const int index = waiting_[head_];
    head_ = (head_ + 1) % 8;
    --queued_;
    core.Dequeue(index, kConsumer);
    return LocalTensor<T>(Ref(index));
  }
  template <typename T>
  void FreeTensor(LocalTensor<T>& tensor) {
    Core().Free(tensor.ref().buffer, kConsumer);
  }

 private:
  friend class TPipe;
  static_assert(position != TPosition::VECCALC);
  static constexpr bool kIn = position == TPosition::VECIN;
  static constexpr model::Pipe kProducer = kIn ? model::kCopyIn : model::kVector;
  static constexpr model::Pipe kConsumer = kIn ? model::kVector : model::kCopyOut;

  model::Core& Core() const {
    model::Core& core = model::Core::Current();
    if (first_ < 0) {
      core.Fail(1, "a queue without InitBuffer");
    }
    return core;
  }
  model::TensorRef Ref(int index) const {
    const model::Buffer& buffer = model::Core::Current().buffer(index);
    return {index, buffer.generation, buffer.start, buffer.bytes};
  }

  int first_ = -1;
  uint32_t next_ = 0;
  uint32_t cursor_modulus_ = 1;
  int waiting_[8] = {};
  int head_ = 0;
  int queued_ = 0;
};

template <TPosition position = TPosition::VECCALC>
class TBuf {
 public:
  template <typename T>
  LocalTensor<T> Get() {
    const model::Buffer& buffer = model::Core::Current().buffer(index_);
    return LocalTensor<T>(model::TensorRef{index_, 0, buffer.start, buffer.bytes});
  }

 private:
  friend class TPipe;
  static_assert(position == TPosition::VECCALC);
  int index_ = -1;
};

class TPipe {
 public:
  TPipe() { model::Core::Current().OpenPipe(); }
  template <TPosition position, int32_t depth, auto mask>
  bool InitBuffer(TQue<position, depth, mask>& queue, uint8_t count, uint32_t bytes) {
    model::Core& core = model::Core::Current();
    queue.cursor_modulus_ = count == 0 ? 1 : count;
    if constexpr (std::is_pointer_v<decltype(mask)>) {
      if ((mask->bufferNumber != 0 && mask->bufferNumber != count) ||
          (mask->bufferLen != 0 && mask->bufferLen != bytes)) {
        core.Fail(7, "TQueConfig and InitBuffer disagree: a bufferNumber of 1 compiles the cursor away");
      }
    }
    queue.first_ = core.InitBuffers(
        position == TPosition::VECIN ? model::Position::kVecIn : model::Position::kVecOut, count, bytes);
    return true;
  }
  template <TPosition position>
  bool InitBuffer(TBuf<position>& buffer, uint32_t bytes) {
    buffer.index_ = model::Core::Current().InitBuffers(model::Position::kVecCalc, 1, bytes);
    return true;
  }
  TEventID FetchEventID(HardEvent event) {
    return static_cast<TEventID>(model::Core::Current().FetchEvent(static_cast<int>(event)));
  }
};

}  // namespace MODEL_ARCHITECTURE
}  // namespace AscendC
