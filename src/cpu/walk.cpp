#include "cpu/walk.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace mseloss::cpu {
namespace {

size_t tile_bytes(const Plan& plan, const Tiling& tiling, DType dtype) {
  const int64_t row = plan.rank == 0 ? 1 : tiling.box[plan.rank - 1];
  const int64_t elements = tiling.volume / row * (row + tiling.padding);
  return (static_cast<size_t>(elements) * size_of(dtype) + 63) / 64 * 64;
}

// Copies rows x columns elements between a tensor and a tile, whichever is which. Strides in elements.
struct Copy {
  ptrdiff_t from_row, from_column, to_row, to_column;
  int64_t rows, columns;
};

constexpr ptrdiff_t kPrefetchBytes = 2048;  // ahead of short rows, on both sides

// Rows of kBytes to 2 * kBytes, as two moves that may overlap; row(i, at) gives kBytes of row i from byte
// `at` on.
template <int kBytes, class RowOf>
void put_short_rows(char* to, const Copy& copy, ptrdiff_t size, RowOf row) {
  using Bytes [[gnu::vector_size(kBytes)]] = char;
  const ptrdiff_t last = copy.columns * size - kBytes, step = copy.to_row * size;
  for (int64_t i = 0; i < copy.rows; ++i, to += step) {
    Bytes head, tail;
    row(i, 0, &head);
    row(i, last, &tail);
    std::memcpy(to, &head, kBytes);
    std::memcpy(to + last, &tail, kBytes);
  }
}

// Calls f(Bytes<k>) for the k that put_short_rows() takes for rows of `bytes`; false if they are too long.
template <int kBytes>
using Bytes = std::integral_constant<int, kBytes>;
template <class F>
bool with_short_rows(ptrdiff_t bytes, F f) {
  if (bytes < 4) return f(Bytes<2>()), true;
  if (bytes < 8) return f(Bytes<4>()), true;
  if (bytes < 16) return f(Bytes<8>()), true;
  if (bytes < 32) return f(Bytes<16>()), true;
  if (bytes < 64) return f(Bytes<32>()), true;
  if (bytes <= 128) return f(Bytes<64>()), true;
  return false;
}

// Rows that are contiguous on both sides.
void copy_rows(const char* from, char* to, const Copy& copy, ptrdiff_t size) {
  const ptrdiff_t bytes = copy.columns * size, step = copy.from_row * size, to_step = copy.to_row * size;
  const bool done = with_short_rows(bytes, [&](auto count) {
    put_short_rows<count>(to, copy, size, [=](int64_t i, ptrdiff_t at, void* part) {
      if (at == 0) {
        __builtin_prefetch(from + i * step + kPrefetchBytes);
        __builtin_prefetch(to + i * to_step + kPrefetchBytes, 1);
      }
      std::memcpy(part, from + i * step + at, count);
    });
  });
  if (done) return;
  for (int64_t i = 0; i < copy.rows; ++i) std::memcpy(to + i * copy.to_row * size, from + i * step, bytes);
}

// One element for each row of a tile.
template <class T>
void fill_rows(const char* from, char* to, const Copy& copy) {
  constexpr ptrdiff_t kSize = sizeof(T);
  const auto element = [=](int64_t i) {
    T one;
    std::memcpy(&one, from + i * copy.from_row * kSize, kSize);
    return one;
  };
  const bool done = with_short_rows(copy.columns * kSize, [&](auto count) {
    put_short_rows<count>(to, copy, kSize, [=](int64_t i, ptrdiff_t, void* part) {
      T row[count < kSize ? 1 : count / kSize];
      std::fill_n(row, sizeof(row) / kSize, element(i));
      std::memcpy(part, row, count);
    });
  });
  if (done) return;
  for (int64_t i = 0; i < copy.rows; ++i) {
    const T one = element(i);
    char* row = to + i * copy.to_row * kSize;
    for (int64_t j = 0; j < copy.columns; ++j) std::memcpy(row + j * kSize, &one, kSize);
  }
}

template <class T>
void copy_strided(const char* from, char* to, const Copy& copy) {
  constexpr ptrdiff_t kSize = sizeof(T);
  const ptrdiff_t from_step = copy.from_column * kSize, to_step = copy.to_column * kSize;
  for (int64_t i = 0; i < copy.rows; ++i) {
    const char* source = from + i * copy.from_row * kSize;
    char* sink = to + i * copy.to_row * kSize;
#pragma GCC unroll 4
    for (int64_t j = 0; j < copy.columns; ++j, source += from_step, sink += to_step) {
      std::memcpy(sink, source, kSize);
    }
  }
}

// Calls f(T()) with the unsigned integer type of `size` bytes.
template <class F>
void with_element(int size, F f) {
  if (size == 2) return f(uint16_t());
  if (size == 4) return f(uint32_t());
  return f(uint64_t());
}

// The inner loop runs along the shorter stride of the tensor, for the sake of its cache lines, unless it
// would be too short to be a loop.
bool swap_loops(const Copy& copy, int size, bool to_tensor) {
  if (copy.columns * size < 16) return copy.rows > copy.columns;
  const ptrdiff_t row = std::abs(to_tensor ? copy.to_row : copy.from_row);
  const ptrdiff_t column = std::abs(to_tensor ? copy.to_column : copy.from_column);
  return copy.rows * size >= 16 && row != 0 && row < column;
}

void copy_plane(const char* from, char* to, Copy copy, int size, bool to_tensor, bool stream) {
  if (copy.to_column == 1 && copy.from_column > 1 && copy.from_column <= kMaxSplit && copy.columns >= 16) {
    // The elements between one column and the next: other rows of this plane, or none of ours.
    const bool neighbours = copy.from_row == 1 && copy.rows <= copy.from_column;
    if (neighbours || copy.from_row != 1) {
      for (int64_t i = 0; i < copy.rows; i += neighbours ? copy.rows : 1) {
        kernels().split[size / 4](from + i * copy.from_row * size, copy.from_column,
                                  to + i * copy.to_row * size, copy.to_row, neighbours ? copy.rows : 1,
                                  copy.columns);
      }
      return;
    }
  }
  if (copy.from_row == 1 && copy.to_column == 1 && copy.rows > 1) {
    kernels().transpose[size / 4](from, copy.from_column, to, copy.to_row, copy.rows, copy.columns, stream);
    return;
  }
  if (copy.from_column == 1 && copy.to_row == 1 && copy.columns > 1) {
    kernels().transpose[size / 4](from, copy.from_row, to, copy.to_column, copy.columns, copy.rows, stream);
    return;
  }
  if (copy.from_column == 1 && copy.to_column == 1) return copy_rows(from, to, copy, size);
  if (copy.from_column == 0 && copy.to_column == 1) {
    return with_element(size, [&](auto element) { fill_rows<decltype(element)>(from, to, copy); });
  }
  if (swap_loops(copy, size, to_tensor)) {
    copy = {copy.from_column, copy.from_row, copy.to_column, copy.to_row, copy.columns, copy.rows};
  }
  with_element(size, [&](auto element) { copy_strided<decltype(element)>(from, to, copy); });
}

class Walk {
 public:
  Walk(const Plan& plan, const Tiling& tiling, char* const* data, char* scratch, bool stream, Worker* worker)
      : plan_(plan), tiling_(tiling), worker_(*worker), stream_(stream) {
    std::copy_n(data, kOperands, data_);
    for (int o = 0; o < kOperands; ++o) {
      if (!has(plan, o) || tiling.direct[o]) continue;
      tile_[o] = scratch;
      scratch += tile_bytes(plan, tiling, plan.dtype);
      if (plan.dtypes[o] == plan.dtype) continue;
      raw_[o] = scratch;
      scratch += tile_bytes(plan, tiling, plan.dtypes[o]);
    }
  }

  void box(int64_t index) {
    place(index);
    for (const int o : {kGradOutput, kInput, kTarget}) {
      if (has(plan_, o) && !tiling_.direct[o]) gather(o);
    }
    compute();
    for (const int o : {kOut, kOut2}) {
      if (has(plan_, o) && !tiling_.direct[o]) scatter(o);
    }
  }

 private:
  // The box's extents, its tile's strides and where each operand's part begins.
  void place(int64_t index) {
    int64_t stride = 1;
    int64_t first[kMaxRank];
    for (int d = plan_.rank; d-- > 0;) {
      first[d] = index % tiling_.boxes[d] * tiling_.box[d];
      index /= tiling_.boxes[d];
      extent_[d] = std::min(tiling_.box[d], plan_.extent[d] - first[d]);
      tile_stride_[d] = stride;
      stride *= extent_[d];
      if (d == plan_.rank - 1) stride += tiling_.padding;
    }
    volume_ = stride;  // padding included: conversions run over it
    for (int o = 0; o < kOperands; ++o) {
      if (!has(plan_, o)) continue;
      int64_t offset = 0;
      for (int d = 0; d < plan_.rank; ++d) offset += first[d] * plan_.stride[o][d];
      here_[o] = data_[o] + offset * size_of(plan_.dtypes[o]);
    }
  }

  // Calls f(operand offset, tile offset) for every index of the box's dimensions other than a and b.
  template <class F>
  void for_each_plane(int o, int a, int b, F f) const {
    int64_t index[kMaxRank] = {};
    int64_t operand = 0, tile = 0;
    for (;;) {
      f(operand, tile);
      int d = plan_.rank - 1;
      for (; d >= 0; --d) {
        if (d == a || d == b) continue;
        operand += plan_.stride[o][d];
        tile += tile_stride_[d];
        if (++index[d] < extent_[d]) break;
        operand -= plan_.stride[o][d] * extent_[d];
        tile -= tile_stride_[d] * extent_[d];
        index[d] = 0;
      }
      if (d < 0) return;
    }
  }

  // The two dimensions a plane is copied along: the tile's innermost, and the operand's own contiguous one,
  // or where they are the same, the next.
  void plane_dimensions(int o, int* row, int* column) const {
    *column = plan_.rank - 1;
    *row = -1;
    const auto before = [](int64_t a, int64_t b) { return a != 0 && (b == 0 || std::abs(a) < std::abs(b)); };
    for (int d = plan_.rank - 1; d-- > 0;) {
      if (extent_[d] > 1 && (*row < 0 || before(plan_.stride[o][d], plan_.stride[o][*row]))) *row = d;
    }
  }

  void gather(int o) {
    // A broadcast operand's part is often the one that the tile still holds.
    if (held_[o] == here_[o] && std::equal(extent_, extent_ + plan_.rank, held_extent_[o])) return;
    held_[o] = here_[o];
    std::copy_n(extent_, plan_.rank, held_extent_[o]);
    const int size = size_of(plan_.dtypes[o]);
    char* raw = raw_[o] != nullptr ? raw_[o] : tile_[o];
    int row, column;
    plane_dimensions(o, &row, &column);
    const Copy copy{row < 0 ? 0 : plan_.stride[o][row], plan_.stride[o][column],
                    row < 0 ? 0 : tile_stride_[row],    1,
                    row < 0 ? 1 : extent_[row],         extent_[column]};
    for_each_plane(o, row, column, [&](int64_t operand, int64_t tile) {
      copy_plane(here_[o] + operand * size, raw + tile * size, copy, size, false, false);
    });
    if (raw != tile_[o]) convert(plan_.dtypes[o], raw, plan_.dtype, tile_[o]);
  }

  void scatter(int o) {
    const int size = size_of(plan_.dtypes[o]);
    const char* raw = tile_[o];
    if (raw_[o] != nullptr) {
      convert(plan_.dtype, raw, plan_.dtypes[o], raw_[o]);
      raw = raw_[o];
    }
    int row, column;
    plane_dimensions(o, &row, &column);
    const Copy copy{row < 0 ? 0 : tile_stride_[row],    1,
                    row < 0 ? 0 : plan_.stride[o][row], plan_.stride[o][column],
                    row < 0 ? 1 : extent_[row],         extent_[column]};
    for_each_plane(o, row, column, [&](int64_t operand, int64_t tile) {
      copy_plane(raw + tile * size, here_[o] + operand * size, copy, size, true, stream_);
    });
  }

  void convert(DType from_dtype, const char* from, DType to_dtype, char* to) const {
    kernels().convert[static_cast<int>(from_dtype)][static_cast<int>(to_dtype)](from, to, volume_);
  }

  // Where the walk reads (or writes) operand o, and with which strides.
  char* place_of(int o) const { return tiling_.direct[o] ? here_[o] : tile_[o]; }
  const int64_t* strides_of(int o) const { return tiling_.direct[o] ? plan_.stride[o] : tile_stride_; }

  void compute() {
    const int size = size_of(plan_.dtype), inner = plan_.rank - 1;
    const int row = tiling_.run - 1;  // the dimension of the kernels' rows, -1 if the box is one run
    Run run{};
    run.scale = plan_.scale;
    run.n = 1;
    for (int d = tiling_.run; d < plan_.rank; ++d) run.n *= extent_[d];
    run.rows = row < 0 ? 1 : extent_[row];
    const auto pitch = [&](int o) { return row < 0 || !has(plan_, o) ? 0 : strides_of(o)[row]; };
    for (const int o : {kGradOutput, kInput, kTarget}) {
      run.moves[o] = has(plan_, o) && strides_of(o)[inner] != 0;
      run.in_pitch[o] = pitch(o);
    }
    run.out_pitch = pitch(kOut);
    run.loss_pitch = pitch(kOut2);
    int64_t index[kMaxRank] = {};
    for (;;) {
      char* at[kOperands] = {};
      for (int o = 0; o < kOperands; ++o) {
        if (!has(plan_, o)) continue;
        int64_t offset = 0;
        for (int d = 0; d < row; ++d) offset += index[d] * strides_of(o)[d];
        at[o] = place_of(o) + offset * size;
      }
      std::copy_n(at, 3, run.in);
      run.out = at[kOut];
      run.loss = at[kOut2];
      worker_(run);
      int d = row - 1;
      for (; d >= 0 && ++index[d] == extent_[d]; --d) index[d] = 0;
      if (d < 0) return;
    }
  }

  const Plan& plan_;
  const Tiling& tiling_;
  Worker& worker_;
  bool stream_;
  char* data_[kOperands];
  char* tile_[kOperands] = {};
  char* raw_[kOperands] = {};  // tiles before (after) conversion, where the operand's dtype differs
  char* here_[kOperands] = {};
  const char* held_[kOperands] = {};
  int64_t held_extent_[kOperands][kMaxRank];
  int64_t extent_[kMaxRank];
  int64_t tile_stride_[kMaxRank];
  int64_t volume_ = 0;
};

}  // namespace

size_t scratch_bytes(const Plan& plan, const Tiling& tiling) {
  size_t bytes = 0;
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o) || tiling.direct[o]) continue;
    bytes += tile_bytes(plan, tiling, plan.dtype);
    if (plan.dtypes[o] != plan.dtype) bytes += tile_bytes(plan, tiling, plan.dtypes[o]);
  }
  return bytes;
}

void walk(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first, int64_t last,
          char* scratch, bool stream, Worker* worker) {
  Walk walk(plan, tiling, data, scratch, stream, worker);
  for (int64_t index = first; index < last; ++index) walk.box(index);
}

}  // namespace mseloss::cpu
