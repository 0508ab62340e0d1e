// Generational handles: a handle encodes a slot index and the slot's generation instead of an address, so
// that a destroyed, consumed or invalid handle is detected without being dereferenced.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

namespace mseloss::acl {

// A handle is tag:4 | generation:36 | slot:24; a slot's state is generation:36 | pins:28. The generation is
// incremented when a handle is published and when it is retired, so it is odd while the handle is valid.
// Slots are reused and never freed. Operations are lock-free except a draft() that needs further slots.
template <class T, unsigned kTag>
class HandleTable {
  struct Slot {
    std::atomic<uint64_t> state{0};
    uint32_t index = 0;
    std::atomic<uint32_t> next_free{0};  // the top of the free list below this slot
    HandleTable* table = nullptr;
    alignas(T) unsigned char storage[sizeof(T)];
    T* object() { return std::launder(reinterpret_cast<T*>(storage)); }
  };

 public:
  // A reference that keeps the object alive after its handle is retired.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
    Pin& operator=(Pin&& other) noexcept {
      std::swap(slot_, other.slot_);
      return *this;
    }
    ~Pin() {
      if (slot_ != nullptr) slot_->table->unpin(slot_);
    }
    explicit operator bool() const { return slot_ != nullptr; }
    T* operator->() const { return slot_->object(); }
    T& operator*() const { return *slot_->object(); }

   private:
    friend HandleTable;
    explicit Pin(Slot* slot) : slot_(slot) {}
    Slot* slot_ = nullptr;
  };

  // An object without a handle yet, reachable only through this draft, which destroys it unless publish() is
  // called. Converts to false if memory or slots ran out.
  class Draft {
   public:
    Draft(const Draft&) = delete;
    Draft& operator=(const Draft&) = delete;
    ~Draft() {
      if (slot_ != nullptr) slot_->table->reclaim(slot_);
    }
    explicit operator bool() const { return slot_ != nullptr; }
    T& operator*() const { return *slot_->object(); }
    void* publish() noexcept {
      Slot* slot = std::exchange(slot_, nullptr);
      const uint64_t state = slot->state.load(std::memory_order_relaxed) + kOneGeneration;
      slot->state.store(state, std::memory_order_release);
      return to_handle(slot->index, state >> kPinBits);
    }

   private:
    friend HandleTable;
    explicit Draft(Slot* slot) : slot_(slot) {}
    Slot* slot_;
  };

  template <class... Args>
  Draft draft(Args&&... args) noexcept {
    static_assert(noexcept(T(std::forward<Args>(args)...)));
    Slot* slot = pop_free();
    if (slot != nullptr) new (slot->storage) T(std::forward<Args>(args)...);
    return Draft(slot);
  }
  // Null if memory or slots ran out.
  template <class... Args>
  void* insert(Args&&... args) noexcept {
    Draft object = draft(std::forward<Args>(args)...);
    return object ? object.publish() : nullptr;
  }

  Pin acquire(const void* handle) noexcept {
    Slot* slot = find(handle);
    if (slot == nullptr) return {};
    uint64_t state = slot->state.load(std::memory_order_relaxed);
    do {
      if (state >> kPinBits != generation(handle)) return {};
    } while (!slot->state.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                                std::memory_order_relaxed));
    return Pin(slot);
  }

  // Invalidates the handle; the object is destroyed with its last pin. False if the handle is not valid.
  bool retire(const void* handle) noexcept {
    Slot* slot = find(handle);
    if (slot == nullptr) return false;
    uint64_t state = slot->state.load(std::memory_order_relaxed);
    do {
      if (state >> kPinBits != generation(handle)) return false;
    } while (!slot->state.compare_exchange_weak(state, state + kOneGeneration, std::memory_order_acq_rel,
                                                std::memory_order_relaxed));
    if ((state & kPinMask) == 0) reclaim(slot);
    return true;
  }

 private:
  static constexpr int kPinBits = 28, kIndexBits = 24, kTagShift = 60;
  static constexpr uint64_t kOneGeneration = uint64_t{1} << kPinBits, kPinMask = kOneGeneration - 1;
  static constexpr uint32_t kFirstChunk = 64;     // slots; each further chunk doubles the capacity
  static constexpr int kChunks = kIndexBits - 5;  // of all indices
  static_assert(std::bit_width(((uint32_t{1} << kIndexBits) - 1) / kFirstChunk) == kChunks - 1);
  static constexpr uint64_t kTopMask = (uint64_t{1} << (kIndexBits + 1)) - 1;
  static_assert(sizeof(void*) == 8 && kTag != 0 && kTag < 16);

  static constexpr uint64_t to_bits(uint64_t tag, uint64_t generation, uint32_t index) {
    return tag << kTagShift | generation << kIndexBits | index;
  }
  static void* to_handle(uint32_t index, uint64_t generation) {
    return reinterpret_cast<void*>(to_bits(kTag, generation, index));
  }
  static uint64_t generation(const void* handle) {
    const auto bits = reinterpret_cast<uint64_t>(handle);
    return (bits & ((uint64_t{1} << kTagShift) - 1)) >> kIndexBits;
  }

  Slot* find(const void* handle) noexcept {
    const auto bits = reinterpret_cast<uint64_t>(handle);
    if ((bits & to_bits(0xf, 1, 0)) != to_bits(kTag, 1, 0)) return nullptr;  // the tag, an odd generation
    const uint32_t index = bits & ((1u << kIndexBits) - 1);
    Slot* slots = chunks_[chunk_of(index)].load(std::memory_order_acquire);
    return slots == nullptr ? nullptr : slots + (index - first_index(chunk_of(index)));
  }
  static int chunk_of(uint32_t index) { return std::bit_width(index / kFirstChunk); }
  static uint32_t first_index(int chunk) { return chunk == 0 ? 0 : kFirstChunk << (chunk - 1); }

  // A lock-free stack, count:39 | top:25, where top is the index of the first slot plus 1, 0 if there is
  // none. The count of changes detects that another thread has popped the top and pushed it again.
  void push_free(Slot* slot) noexcept {
    uint64_t list = free_.load(std::memory_order_relaxed);
    do {
      slot->next_free.store(list & kTopMask, std::memory_order_relaxed);
    } while (!free_.compare_exchange_weak(list, with_top(list, slot->index + 1), std::memory_order_release,
                                          std::memory_order_relaxed));
  }
  Slot* try_pop_free() noexcept {
    uint64_t list = free_.load(std::memory_order_acquire);
    Slot* slot;
    do {
      if ((list & kTopMask) == 0) return nullptr;
      const uint32_t index = static_cast<uint32_t>(list & kTopMask) - 1;
      const int chunk = chunk_of(index);
      slot = chunks_[chunk].load(std::memory_order_acquire) + (index - first_index(chunk));
    } while (!free_.compare_exchange_weak(
        list, with_top(list, slot->next_free.load(std::memory_order_relaxed)), std::memory_order_acquire));
    return slot;
  }
  static uint64_t with_top(uint64_t list, uint32_t top) { return ((list | kTopMask) + 1) | top; }

  Slot* pop_free() noexcept {
    if (Slot* slot = try_pop_free()) return slot;
    const std::lock_guard lock(mutex_);
    for (;;) {
      if (Slot* slot = try_pop_free()) return slot;
      if (!grow()) return nullptr;
    }
  }
  bool grow() noexcept {
    if (used_chunks_ == kChunks) return false;
    const uint32_t first = first_index(used_chunks_), count = used_chunks_ == 0 ? kFirstChunk : first;
    Slot* slots = new (std::nothrow) Slot[count];
    if (slots == nullptr) return false;
    chunks_[used_chunks_++].store(slots, std::memory_order_release);
    for (uint32_t i = count; i-- > 0;) {
      slots[i].index = first + i;
      slots[i].table = this;
      push_free(slots + i);
    }
    return true;
  }
  void unpin(Slot* slot) noexcept {
    const uint64_t before = slot->state.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kPinMask) == 1 && (before >> kPinBits) % 2 == 0) reclaim(slot);
  }
  void reclaim(Slot* slot) noexcept {
    slot->object()->~T();
    push_free(slot);
  }

  std::mutex mutex_;  // of grow()
  int used_chunks_ = 0;
  std::atomic<uint64_t> free_{0};
  std::atomic<Slot*> chunks_[kChunks] = {};
};

}  // namespace mseloss::acl
