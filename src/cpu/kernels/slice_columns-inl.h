// Adds the sums of columns, which are parts of slices, to the accumulators of the slices. Re-included per
// target.
#if defined(MSELOSS_SLICE_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_SLICE_COLUMNS_INL_H_
#undef MSELOSS_SLICE_COLUMNS_INL_H_
#else
#define MSELOSS_SLICE_COLUMNS_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "cpu/kernels/row_loop-inl.h"
#include "cpu/kernels/slice_accumulators-inl.h"
#include "cpu/kernels/squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// The sums of the columns of a block, without weights optionally with its gradient. The sums of one storage
// vector of columns are a slot; as many slots are in use as fit in L1 beside the rows.
//
// Rows that follow each other in memory are read as one stream, in which the columns of a vector repeat with
// a period: for rows of 3 and vectors of 16, after 3 vectors. So no row is too short for vectors.
template <class S, bool kWeighted, Store kStore>
class Columns {
 public:
  explicit Columns(const RowBlock& block)
      : block_(block),
        planes_(static_cast<double*>(block.at[kLossOut])),
        drop_(block.masked),
        scale_(hn::Set(D(), static_cast<T>(block.scale))),
        slots_(reinterpret_cast<Sums*>(memory_)) {
    static_assert(kStore == Store::kNone || !kWeighted);
  }

  // Returns false, having done nothing, if the block's gradient is not one that this computes.
  bool run() {
    if (is_stream()) return run_stream();
    if (kStore != Store::kNone && !stores_rows()) return false;
    const size_t together = block_.pitch[kLossOut] == 0 ? block_.rows : 1;  // rows of the same slices
    for (size_t r = 0; r < block_.rows; r += together) run_rows(r, together);
    return true;
  }

 private:
  using T = typename S::Compute;
  using Memory = typename S::Memory;
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  using Sums = std::conditional_t<kWeighted, WeightedSquares<T>, Squares<T, 1>>;
  static constexpr size_t kSlotBytes = kWeighted ? 24576 : 16384;
  static constexpr size_t kMaxSlots = kSlotBytes / (sizeof(Sums) * S::kParts);
  // Slots of a stream, each of which waits for its own last addition: in memory, and in registers if the
  // period divides their number.
  static constexpr size_t kMinSlots = 8, kRegisterSlots = HWY_MAX(1, (kWeighted ? 2 : 4) / S::kParts);
  static constexpr TermCounts kOneTerm{1, 1};
  static constexpr ptrdiff_t kStreamPrefetch =
      kWeighted || sizeof(Memory) < sizeof(T) ? kFarPrefetchBytes : 0;

  static HWY_INLINE size_t vector() { return S::kParts * hn::Lanes(D()); }
  HWY_INLINE const Memory* row(int o, size_t r) const {
    return static_cast<const Memory*>(block_.at[o]) + static_cast<ptrdiff_t>(r) * block_.pitch[o];
  }

  // The operands of a row or stream: those that are strided advance with the columns.
  struct Input {
    const Memory* at;
    size_t mask;
  };
  Input input(int o, size_t r, BroadcastVector<S>* copies) const {
    if (block_.strided[o]) return {row(o, r), ~size_t{0}};
    return {copies->fill(row(o, r)), 0};
  }
  struct Row {
    Input x, y, w, g;
    Memory* out;
  };
  Row open_row(size_t r) {
    Row result{};
    result.x = input(kInput, r, &x_copies_);
    result.y = input(kTarget, r, &y_copies_);
    if constexpr (kWeighted) result.w = input(kWeight, r, &w_copies_);
    if constexpr (kStore != Store::kNone) {
      result.g = input(kGradOutput, r, &g_copies_);
      result.out = static_cast<Memory*>(output_row<S>(block_, r));
    }
    return result;
  }

  // Adds a storage vector whose inputs are load(input, part), and returns its gradient in `v`.
  template <bool kMagnitudes, class Load>
  HWY_INLINE void add(const Row& row, Sums* slot, const Load& load, [[maybe_unused]] V* v) {
    unrolled<S::kParts>([&](auto part) MSELOSS_INLINE {
      auto difference = hn::Sub(load(row.x, part), load(row.y, part));
      Sums own = slot[part];
      if constexpr (kWeighted) {
        const auto weight = load(row.w, part);
        difference = drop_(weight, difference);
        own.add(difference, kMagnitudes ? hn::Abs(weight) : weight);
      } else {
        own.add(Index<0>(), difference);
      }
      slot[part] = own;
      if constexpr (kStore != Store::kNone) v[part] = hn::Mul(hn::Mul(difference, scale_), load(row.g, part));
    });
  }
  // Prefetches `ahead` bytes ahead, unless that is 0.
  template <bool kMagnitudes, bool kNonTemporal>
  HWY_INLINE void add_vector(const Row& row, size_t i, Sums* slot, ptrdiff_t ahead) {
    V v[S::kParts];
    if (ahead != 0) {
      const auto prefetch = [=](const Input& input) MSELOSS_INLINE {
        hwy::Prefetch(reinterpret_cast<const char*>(input.at + (i & input.mask)) + ahead);
      };
      prefetch(row.x);
      prefetch(row.y);
      if constexpr (kWeighted) prefetch(row.w);
    }
    const auto load = [i](const Input& input, auto part)
                          MSELOSS_INLINE { return S::load_part(part, D(), input.at + (i & input.mask)); };
    add<kMagnitudes>(row, slot, load, v);
    if constexpr (kStore != Store::kNone) S::template store_parts<kNonTemporal>(D(), v, row.out + i);
  }
  // `count` elements, less than a vector.
  template <bool kMagnitudes>
  void add_some(const Row& row, size_t i, size_t count, Sums* slot) {
    V v[S::kParts];
    HWY_ALIGN Memory elements[kMaxVector<S>];
    const auto load = [&](const Input& input, auto part) MSELOSS_INLINE {
      std::fill_n(elements, kMaxVector<S>, Memory{0});
      std::memcpy(elements, input.at + (i & input.mask), count * sizeof(Memory));
      return S::load_part(part, D(), elements);
    };
    add<kMagnitudes>(row, slot, load, v);
    if constexpr (kStore != Store::kNone) {
      S::template store_parts<false>(D(), v, elements);
      std::memcpy(row.out + i, elements, count * sizeof(Memory));
    }
  }

  void clear(size_t slots) {
    for (size_t i = 0; i < slots * S::kParts; ++i) new (slots_ + i) Sums();
  }
  bool any_negative(size_t slots) const {
    return std::any_of(slots_, slots_ + slots * S::kParts, [](const Sums& s) { return s.any_negative(); });
  }

  // What fold() adds to the accumulators: sums with their errors or, if a weight is negative, first the sums,
  // then the errors, from slots of the magnitudes.
  enum class Fold { kAll, kSums, kErrors };

  // Adds the first `count` columns of a slot to the accumulators from column `at` on, which wrap around at
  // the end of the row.
  void fold(Sums* slot, const TermCounts& of, size_t at, size_t count, double* planes, Fold what) const {
    constexpr int kPlanes = kWeighted ? 6 : 3;
    HWY_ALIGN double values[kPlanes][kMaxVector<S>];
    const size_t lanes = hn::Lanes(D()), wide_lanes = hn::Lanes(Wide());
    unrolled<S::kParts>([&](auto part) MSELOSS_INLINE {
      const auto store = [&](size_t half, const auto&... planes_of) MSELOSS_INLINE {
        int plane = 0;
        const auto one = [&](WideV v) MSELOSS_INLINE {
          const bool is_error = plane % 3 == 2;
          if (what != Fold::kAll && is_error != (what == Fold::kErrors)) v = hn::Zero(Wide());
          hn::StoreU(v, Wide(), values[plane++] + part * lanes + half * wide_lanes);
        };
        (one(planes_of), ...);
      };
      if constexpr (kWeighted) {
        slot[part].columns(of, slot[part], [&](auto half, auto... v) MSELOSS_INLINE { store(half(), v...); });
      } else {
        slot[part].columns(of, [&](auto half, auto... v) MSELOSS_INLINE { store(half(), v...); });
      }
    });
    if constexpr (S::kInterleaved) {
      for (auto& plane : values) {
        HWY_ALIGN double parts[kMaxVector<S>];
        std::copy_n(plane, vector(), parts);
        for (size_t e = 0; e < lanes; ++e) {
          plane[2 * e] = parts[e];
          plane[2 * e + 1] = parts[lanes + e];
        }
      }
    }
    for (size_t e = 0; e < count;) {
      const size_t column = (at + e) % block_.n;
      const bool full = e + wide_lanes <= count && column + wide_lanes <= block_.n;
      for (int first = 0; first < kPlanes; first += 3) {
        double* const to = planes + column + first * block_.plane;
        const double *const high = values[first] + e, *const low = values[first + 1] + e,
                            *const error = values[first + 2] + e;
        if (full) {
          add_to_slices(hn::LoadU(Wide(), high), hn::LoadU(Wide(), low), hn::LoadU(Wide(), error), to,
                        block_.plane);
        } else {
          add_to_slice({*high, *low, *error}, to, block_.plane);
        }
      }
      e += full ? wide_lanes : 1;
    }
  }

  // Vectors of columns after which the columns of a stream repeat.
  HWY_INLINE size_t period() const { return block_.n / std::gcd(block_.n, vector()); }

  // Whether the rows follow each other in memory, and are so many that adding the slots to the accumulators
  // takes little of the time.
  bool is_stream() const {
    const auto follows = [&](int o) {
      return block_.strided[o] && block_.pitch[o] == static_cast<ptrdiff_t>(block_.n);
    };
    if (block_.pitch[kLossOut] != 0 || !follows(kInput) || !follows(kTarget)) return false;
    if (kWeighted && !follows(kWeight)) return false;
    if constexpr (kStore != Store::kNone) {
      if (!follows(kOut) || block_.strided[kGradOutput] || block_.pitch[kGradOutput] != 0) return false;
    }
    return period() + 1 < kMaxSlots && block_.rows * block_.n >= 4 * period() * vector();
  }

  // Whether rows are written in full vectors.
  bool stores_rows() const {
    if (kStore != Store::kNonTemporal) return true;
    const auto out = reinterpret_cast<uintptr_t>(block_.at[kOut]);
    return (out | static_cast<uintptr_t>(block_.pitch[kOut]) * sizeof(Memory)) % kLineBytes == 0;
  }

  bool run_stream() {
    const Row stream = open_row(0);
    const size_t n = block_.n * block_.rows, all = period();
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a row has elements, so its period is at least 1
    const bool in_registers = kRegisterSlots % all == 0;
    const size_t wanted = in_registers ? kRegisterSlots : std::min(kMinSlots, kMaxSlots - 1);
    const size_t copies = std::max<size_t>(1, wanted / all), used = all * copies;
    Sums* const edge = slots_ + used * S::kParts;
    // Non-temporal stores write full cache lines only.
    size_t begin = 0, end = n / vector() * vector();
    if constexpr (kStore == Store::kNonTemporal) {
      constexpr size_t kLine = kLineBytes / sizeof(Memory);
      begin = std::min(n, (kLine - reinterpret_cast<uintptr_t>(stream.out) / sizeof(Memory) % kLine) % kLine);
      end = begin + (n - begin) / kLine * kLine;
    }
    const size_t visits = (end - begin) / (used * vector()) + 1;
    const TermCounts of_slot{visits + copies, visits * copies};
    const auto fold_edge = [&](size_t i, size_t count, Fold what) {
      fold(edge, kOneTerm, i % block_.n, count, planes_, what);
    };
    const auto add_all = [&](auto magnitudes) MSELOSS_INLINE {
      clear(used + 1);
      size_t i = begin;
      if (in_registers) {
        Sums own[kRegisterSlots * S::kParts];
        for (; i + kRegisterSlots * vector() <= end; i += kRegisterSlots * vector()) {
          unrolled<kRegisterSlots>([&](auto k) MSELOSS_INLINE {
            add_vector<magnitudes(), kStore == Store::kNonTemporal>(stream, i + k * vector(),
                                                                    own + k * S::kParts, kStreamPrefetch);
          });
        }
        std::copy_n(own, kRegisterSlots * S::kParts, slots_);
      }
      while (i < end) {
        for (size_t k = 0; k < used && i < end; ++k, i += vector()) {
          add_vector<magnitudes(), kStore == Store::kNonTemporal>(stream, i, slots_ + k * S::kParts,
                                                                  kStreamPrefetch);
        }
      }
      if (kStore == Store::kNone && end < n) add_some<magnitudes()>(stream, end, n - end, edge);
    };
    const auto fold_all = [&](Fold what) {
      for (size_t k = 0; k < all; ++k) {
        for (size_t copy = k + all; copy < used; copy += all) {
          for (int part = 0; part < S::kParts; ++part) {
            slots_[k * S::kParts + part].merge(slots_[copy * S::kParts + part]);
          }
        }
        const size_t at = begin + k * vector();
        fold(slots_ + k * S::kParts, of_slot, at % block_.n, vector(), planes_, what);
      }
      if (kStore == Store::kNone && end < n) fold_edge(end, n - end, what);
    };
    add_all(std::false_type());
    finish(used + 1, add_all, fold_all);
    if constexpr (kStore != Store::kNone) {
      const auto add_edges = [&](size_t from, size_t to) {
        for (size_t i = from; i < to; i += vector()) {
          const size_t count = std::min(vector(), to - i);
          for (int part = 0; part < S::kParts; ++part) new (edge + part) Sums();
          add_some<false>(stream, i, count, edge);
          fold_edge(i, count, Fold::kAll);
        }
      };
      add_edges(0, begin);
      add_edges(end, n);
    }
    return true;
  }

  // `count` rows of the same slices, one after the other, as they lie in memory.
  void run_rows(size_t first, size_t count) {
    double* const planes = planes_ + static_cast<ptrdiff_t>(first) * block_.pitch[kLossOut];
    for (size_t j = 0; j < block_.n; j += kMaxSlots * vector()) {
      const size_t columns = std::min(kMaxSlots * vector(), block_.n - j);
      const size_t full = columns / vector() * vector(), slots = (columns + vector() - 1) / vector();
      const auto add_all = [&](auto magnitudes) MSELOSS_INLINE {
        clear(slots);
        for (size_t r = first; r < first + count; ++r) {
          const Row row = open_row(r);
          // Hardware prefetchers do not follow from one row to the next.
          const ptrdiff_t next = block_.pitch[kInput] * static_cast<ptrdiff_t>(sizeof(Memory));
          Sums* slot = slots_;
          for (size_t i = 0; i < full; i += vector(), slot += S::kParts) {
            add_vector<magnitudes(), kStore == Store::kNonTemporal>(row, j + i, slot, next);
          }
          if (full < columns) add_some<magnitudes()>(row, j + full, columns - full, slot);
        }
      };
      const auto fold_all = [&](Fold what) {
        for (size_t k = 0; k < slots; ++k) {
          const size_t at = k * vector();
          fold(slots_ + k * S::kParts, {count, count}, j + at, std::min(vector(), columns - at), planes,
               what);
        }
      };
      add_all(std::false_type());
      finish(slots, add_all, fold_all);
    }
  }

  // Calls fold_all(), which adds the sums of the slots to the accumulators. If a weight is negative, the sums
  // do not bound their errors: add_all() then sums the magnitudes, from which fold_all() adds the errors.
  template <class Add, class FoldAll>
  HWY_INLINE void finish(size_t slots, const Add& add_all, const FoldAll& fold_all) {
    if constexpr (kWeighted) {
      if (HWY_UNLIKELY(any_negative(slots))) {
        fold_all(Fold::kSums);
        add_all(std::true_type());
        return fold_all(Fold::kErrors);
      }
    }
    fold_all(Fold::kAll);
  }

  const RowBlock& block_;
  double* planes_;
  MaskedZero<D> drop_;
  V scale_;
  BroadcastVector<S> x_copies_, y_copies_, w_copies_, g_copies_;
  alignas(Sums) unsigned char memory_[kMaxSlots * S::kParts * sizeof(Sums)];
  Sums* slots_;
};

template <class S, bool kWeighted>
void add_columns(const RowBlock& block) {
  Columns<S, kWeighted, Store::kNone>(block).run();
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_SLICE_COLUMNS_INL_H_
