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
// Slots are reused and never freed. Operations are lock-free except draft() and the destruction of an object,
// which take the free list's lock.
template <class T, unsigned kTag>
class HandleTable {
  struct Slot {
    std::atomic<uint64_t> state{0};
    uint32_t index = 0;
    Slot* next_free = nullptr;
    alignas(T) unsigned char storage[sizeof(T)];
    T* object() { return std::launder(reinterpret_cast<T*>(storage)); }
  };

 public:
  // A reference that keeps the object alive after its handle is retired.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept : table_(other.table_), slot_(std::exchange(other.slot_, nullptr)) {}
    Pin& operator=(Pin&& other) noexcept {
      std::swap(table_, other.table_);
      std::swap(slot_, other.slot_);
      return *this;
    }
    ~Pin() {
      if (slot_ != nullptr) table_->unpin(slot_);
    }
    explicit operator bool() const { return slot_ != nullptr; }
    T* operator->() const { return slot_->object(); }
    T& operator*() const { return *slot_->object(); }

   private:
    friend HandleTable;
    Pin(HandleTable* table, Slot* slot) : table_(table), slot_(slot) {}
    HandleTable* table_ = nullptr;
    Slot* slot_ = nullptr;
  };

  // An object without a handle yet, reachable only through this draft, which destroys it unless publish() is
  // called. Converts to false if memory or slots ran out.
  class Draft {
   public:
    Draft(const Draft&) = delete;
    Draft& operator=(const Draft&) = delete;
    ~Draft() {
      if (slot_ != nullptr) table_->reclaim(slot_);
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
    Draft(HandleTable* table, Slot* slot) : table_(table), slot_(slot) {}
    HandleTable* table_;
    Slot* slot_;
  };

  template <class... Args>
  Draft draft(Args&&... args) noexcept {
    static_assert(noexcept(T(std::forward<Args>(args)...)));
    Slot* slot = pop_free();
    if (slot != nullptr) new (slot->storage) T(std::forward<Args>(args)...);
    return Draft(this, slot);
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
    return Pin(this, slot);
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
  static constexpr uint32_t kFirstChunk = 64;  // slots; each further chunk doubles the capacity
  static constexpr int kChunks = kIndexBits - 5;
  static_assert(sizeof(void*) == 8 && kTag != 0 && kTag < 16);

  static void* to_handle(uint32_t index, uint64_t generation) {
    return reinterpret_cast<void*>(uint64_t{kTag} << kTagShift | generation << kIndexBits | index);
  }
  static uint64_t generation(const void* handle) {
    const auto bits = reinterpret_cast<uint64_t>(handle);
    return (bits & ((uint64_t{1} << kTagShift) - 1)) >> kIndexBits;
  }

  Slot* find(const void* handle) noexcept {
    const auto bits = reinterpret_cast<uint64_t>(handle);
    if (bits >> kTagShift != kTag || generation(handle) % 2 == 0) return nullptr;
    const uint32_t index = bits & ((1u << kIndexBits) - 1);
    const int chunk = std::bit_width(index / kFirstChunk);
    if (chunk >= kChunks) return nullptr;
    Slot* slots = chunks_[chunk].load(std::memory_order_acquire);
    return slots == nullptr ? nullptr : slots + (index - first_index(chunk));
  }
  static uint32_t first_index(int chunk) { return chunk == 0 ? 0 : kFirstChunk << (chunk - 1); }

  Slot* pop_free() noexcept {
    const std::lock_guard lock(mutex_);
    if (free_ == nullptr && !grow()) return nullptr;
    return std::exchange(free_, free_->next_free);
  }
  bool grow() noexcept {
    if (used_chunks_ == kChunks) return false;
    const uint32_t first = first_index(used_chunks_), count = used_chunks_ == 0 ? kFirstChunk : first;
    Slot* slots = new (std::nothrow) Slot[count];
    if (slots == nullptr) return false;
    for (uint32_t i = count; i-- > 0;) {
      slots[i].index = first + i;
      slots[i].next_free = std::exchange(free_, slots + i);
    }
    chunks_[used_chunks_++].store(slots, std::memory_order_release);
    return true;
  }
  void unpin(Slot* slot) noexcept {
    const uint64_t before = slot->state.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kPinMask) == 1 && (before >> kPinBits) % 2 == 0) reclaim(slot);
  }
  void reclaim(Slot* slot) noexcept {
    slot->object()->~T();
    const std::lock_guard lock(mutex_);
    slot->next_free = std::exchange(free_, slot);
  }

  std::mutex mutex_;
  Slot* free_ = nullptr;
  int used_chunks_ = 0;
  std::atomic<Slot*> chunks_[kChunks] = {};
};

}  // namespace mseloss::acl
