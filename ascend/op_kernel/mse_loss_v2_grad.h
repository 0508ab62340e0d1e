// y = ((predict - label) * scale) * dout in three float32 operations, rounded once to the storage type.
#ifndef MSE_LOSS_V2_GRAD_H
#define MSE_LOSS_V2_GRAD_H

#include "kernel_operator.h"
#include "mse_loss_v2_grad_tiling.h"

// Atlas inference products (310P) have no DataCopyPad: copies move whole 32-byte blocks, and the scalar unit
// moves the elements after the last whole block. Their cores are not divided into cube and vector cores.
#if defined(__NPU_ARCH__) && __NPU_ARCH__ == 2002
#define MSE_WHOLE_BLOCKS 1
#define MSE_KERNEL_TYPE KERNEL_TYPE_AICORE
#else
#define MSE_WHOLE_BLOCKS 0
#define MSE_KERNEL_TYPE KERNEL_TYPE_AIV_ONLY
#endif

namespace mse_loss_v2_grad_op {

using AscendC::GlobalTensor;
using AscendC::HardEvent;
using AscendC::LocalTensor;
using AscendC::RoundMode;
using AscendC::TBuf;
using AscendC::TPipe;
using AscendC::TPosition;
using AscendC::TQue;

// One iteration of the tile loop: `rows` whole rows, or a part of one row.
struct Tile {
  int64_t start;  // first element of y
  int64_t row;
  int64_t column;
  int32_t rows;
  int32_t columns;
};

// A part of a tile that is computed at once: some of its rows, or a part of one row.
struct Chunk {
  int32_t row;  // of the tile
  int32_t rows;
  int32_t column;
  int32_t count;  // elements, including row padding
  int32_t pitch;  // distance of rows in UB, in elements
};

// Assumes, as checked by the tiling: the shapes broadcast to y, the buffers fit UB, and every core has work
// unless y is empty. Lengths and offsets count elements; global ones have 64 bits.
template <typename T>
class MseLossV2Grad {
 public:
  __aicore__ inline void Init(GM_ADDR predict, GM_ADDR label, GM_ADDR dout, GM_ADDR y,
                              const MseLossV2GradTilingData* tiling, TPipe* pipe) {
    tiling_ = tiling;
    const int64_t core = AscendC::GetBlockIdx();
    const int64_t extra = tiling->extra_cores;
    const int64_t first_unit = core * tiling->base_units + (core < extra ? core : extra);
    const int64_t units = tiling->base_units + (core < extra ? 1 : 0);
    begin_ = first_unit * tiling->unit;
    end_ = Min(begin_ + units * tiling->unit, tiling->total);
    if (begin_ >= end_) {
      return;
    }

    BindInput(kMsePredict, predict, pipe);
    BindInput(kMseLabel, label, pipe);
    BindInput(kMseDout, dout, pipe);
    y_.SetGlobalBuffer((__gm__ T*)y, static_cast<uint64_t>(tiling->total));
#if !MSE_WHOLE_BLOCKS
    if (tiling->y_bypass_l2 != 0) {
      y_.SetL2CacheHint(AscendC::CacheMode::CACHE_MODE_DISABLE);
    }
#endif
    pipe->InitBuffer(output_, 2, static_cast<uint32_t>(tiling->tile * kSize));
    if constexpr (kWiden) {
      pipe->InitBuffer(work_buffer_, static_cast<uint32_t>(2 * tiling->step * sizeof(float)));
      pipe->InitBuffer(value_buffer_,
                       static_cast<uint32_t>(kMseInputs * tiling->value_slots * sizeof(float)));
      work_ = work_buffer_.template Get<float>();
      values_ = value_buffer_.template Get<float>();
    }
    scalar_ready_ = pipe->FetchEventID(HardEvent::V_S);
#if MSE_WHOLE_BLOCKS
    tail_filled_ = pipe->FetchEventID(HardEvent::S_V);
    copied_out_ = pipe->FetchEventID(HardEvent::MTE3_S);
#endif
    ReadSingleElements();
  }

  __aicore__ inline void Process() {
    int64_t position = begin_;
    while (position < end_) {
      const Tile tile = TileAt(position);
      CopyIn(tile);
      Compute(tile);
      CopyOut(tile);
      position += static_cast<int64_t>(tile.rows) * tile.columns;
    }
  }

 private:
  static constexpr bool kWiden = !AscendC::IsSameType<T, float>::value;
  static constexpr int64_t kSize = static_cast<int64_t>(sizeof(T));
  static constexpr int32_t kBlock = static_cast<int32_t>(32 / sizeof(T));  // elements in a UB block
  // To nearest even. A function, because Cast takes the mode by reference and the 310P cannot refer to global
  // constants.
  __aicore__ inline static RoundMode Narrowing() {
#if MSE_WHOLE_BLOCKS
    return RoundMode::CAST_NONE;  // CAST_RINT does not exist
#else
    return RoundMode::CAST_RINT;
#endif
  }

  __aicore__ inline static int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

  __aicore__ inline void BindInput(int32_t input, GM_ADDR address, TPipe* pipe) {
    input_[input].SetGlobalBuffer((__gm__ T*)address, static_cast<uint64_t>(tiling_->size[input]));
#if !MSE_WHOLE_BLOCKS
    if (tiling_->bypass_l2[input] != 0) {
      input_[input].SetL2CacheHint(AscendC::CacheMode::CACHE_MODE_DISABLE);
    }
#endif
    pipe->InitBuffer(queue_[input], tiling_->single[input] != 0 ? 1 : 2,
                     static_cast<uint32_t>(tiling_->input_bytes[input]));
  }

  __aicore__ inline Tile TileAt(int64_t position) const {
    Tile tile;
    tile.start = position;
    tile.row = position / tiling_->row_length;
    tile.column = position - tile.row * tiling_->row_length;
    const int64_t left = end_ - position;
    if (tiling_->tile_rows > 1 && tile.column == 0 && left >= tiling_->row_length) {
      // A tile does not cross the dimension next to the row, so every input has one row stride.
      const int64_t rows = Min(left / tiling_->row_length, tiling_->outer[0] - tile.row % tiling_->outer[0]);
      tile.rows = static_cast<int32_t>(Min(rows, tiling_->tile_rows));
      tile.columns = static_cast<int32_t>(tiling_->row_length);
    } else {
      tile.rows = 1;
      tile.columns = static_cast<int32_t>(Min(Min(tiling_->row_length - tile.column, left), tiling_->tile));
    }
    return tile;
  }

  __aicore__ inline int64_t Offset(int32_t input, const Tile& tile) const {
    int64_t row = tile.row;
    int64_t offset = tiling_->dense[input] != 0 ? tile.column : 0;
    for (int32_t i = 0; i < tiling_->outer_rank; ++i) {
      const int64_t next = row / tiling_->outer[i];
      offset += (row - next * tiling_->outer[i]) * tiling_->stride[input][i];
      row = next;
    }
    return offset;
  }

#if MSE_WHOLE_BLOCKS
  // Several rows only if they are whole blocks, and therefore contiguous on both sides.
  __aicore__ inline void Load(int32_t input, int64_t offset, int32_t rows, int32_t elements) {
    LocalTensor<T> local = queue_[input].template AllocTensor<T>();
    const int32_t count = rows * elements;
    const int32_t whole = count / kBlock * kBlock;
    if (whole > 0) {
      AscendC::DataCopy(local, input_[input][static_cast<uint64_t>(offset)], static_cast<uint32_t>(whole));
    }
    tail_[input] = {offset + whole, whole, count - whole};
    queue_[input].EnQue(local);
  }

  // Reads the elements after the last whole block; they are in UB when this returns.
  __aicore__ inline void FillTail(int32_t input, const LocalTensor<T>& local) {
    const Tail tail = tail_[input];
    if (tail.count == 0) {
      return;
    }
    WaitForValues();  // vector instructions may still read the buffer's previous contents
    for (int32_t i = 0; i < tail.count; ++i) {
      local.SetValue(static_cast<uint32_t>(tail.to + i),
                     input_[input].GetValue(static_cast<uint64_t>(tail.from + i)));
    }
    AscendC::SetFlag<HardEvent::S_V>(tail_filled_);
    AscendC::WaitFlag<HardEvent::S_V>(tail_filled_);
  }
#else
  __aicore__ inline void Load(int32_t input, int64_t offset, int32_t blocks, int32_t elements) {
    LocalTensor<T> local = queue_[input].template AllocTensor<T>();
    const AscendC::DataCopyExtParams shape(static_cast<uint16_t>(blocks),
                                           static_cast<uint32_t>(elements * kSize), 0, 0, 0);
    // Pads each row with zeros to a multiple of 32 bytes, so that instructions can process whole rows.
    AscendC::DataCopyPadExtParams<T> padding{};
    padding.rightPadding = static_cast<uint8_t>((kBlock - elements % kBlock) % kBlock);
    padding.isPad = padding.rightPadding != 0;
    AscendC::DataCopyPad(local, input_[input][static_cast<uint64_t>(offset)], shape, padding);
    queue_[input].EnQue(local);
  }
#endif

  __aicore__ inline LocalTensor<T> Take(int32_t input) {
    LocalTensor<T> local = queue_[input].template DeQue<T>();
#if MSE_WHOLE_BLOCKS
    FillTail(input, local);
#endif
    return local;
  }

  __aicore__ inline void CopyIn(const Tile& tile) {
    for (int32_t input = 0; input < kMseInputs; ++input) {
      if (tiling_->single[input] != 0) {
        continue;
      }
      const int32_t rows = tiling_->stride[input][0] != 0 ? tile.rows : 1;
      if (tiling_->dense[input] != 0) {
        Load(input, Offset(input, tile), rows, tile.columns);
      } else {
        Load(input, Offset(input, tile), 1, rows);  // the values of consecutive rows are contiguous
      }
    }
  }

  // Reads inputs of one element, such as dout in a training step with mean or sum; they need no broadcast.
  __aicore__ inline void ReadSingleElements() {
    for (int32_t input = 0; input < kMseInputs; ++input) {
      if (tiling_->single[input] == 0) {
        continue;
      }
      Load(input, 0, 1, 1);
      LocalTensor<T> local = Take(input);
      WidenValues(input, local, 1);
      WaitForValues();
      single_value_[input] = Value(input, local, 0);
      queue_[input].FreeTensor(local);
    }
  }

  __aicore__ inline void WidenValues(int32_t input, const LocalTensor<T>& local, int32_t count) {
    if constexpr (kWiden) {
      AscendC::Cast(values_[input * tiling_->value_slots], local, RoundMode::CAST_NONE, count);
    }
  }

  // Makes the scalar unit wait for the vector pipe, which already waits for the copy.
  __aicore__ inline void WaitForValues() {
    AscendC::SetFlag<HardEvent::V_S>(scalar_ready_);
    AscendC::WaitFlag<HardEvent::V_S>(scalar_ready_);
  }

  __aicore__ inline float Value(int32_t input, const LocalTensor<T>& local, int32_t index) {
    if constexpr (kWiden) {
      return values_.GetValue(static_cast<uint32_t>(input * tiling_->value_slots + index));
    } else {
      return local.GetValue(static_cast<uint32_t>(index));
    }
  }

  __aicore__ inline void Compute(const Tile& tile) {
    LocalTensor<T> in[kMseInputs];
    bool value_per_row = false;
    for (int32_t input = 0; input < kMseInputs; ++input) {
      if (tiling_->single[input] != 0) {
        continue;
      }
      in[input] = Take(input);
      if (tiling_->dense[input] == 0) {
        WidenValues(input, in[input], tiling_->stride[input][0] != 0 ? tile.rows : 1);
        value_per_row = true;
      }
    }
    if (value_per_row) {
      WaitForValues();
    }

    LocalTensor<T> out = output_.template AllocTensor<T>();
    Chunk chunk;
    chunk.pitch = (tile.columns + kBlock - 1) / kBlock * kBlock;  // DataCopyPad starts rows at 32 bytes
    const int32_t width = tile.rows > 1 ? chunk.pitch : tile.columns;
    const int32_t step = kWiden ? tiling_->step : tile.rows * width;
    const int32_t chunk_rows = step > width ? step / width : 1;
    for (chunk.row = 0; chunk.row < tile.rows; chunk.row += chunk_rows) {
      chunk.rows = static_cast<int32_t>(Min(chunk_rows, tile.rows - chunk.row));
      for (chunk.column = 0; chunk.column < width; chunk.column += step) {
        chunk.count =
            static_cast<int32_t>(chunk.rows > 1 ? chunk.rows * width : Min(step, width - chunk.column));
        ComputeChunk(out[chunk.row * chunk.pitch + chunk.column], in, chunk);
      }
    }

    output_.EnQue(out);
    for (int32_t input = 0; input < kMseInputs; ++input) {
      if (tiling_->single[input] == 0) {
        queue_[input].FreeTensor(in[input]);
      }
    }
  }

  // True if the input needs one instruction per row of the chunk: a dense row shared by all rows, or a value
  // per row.
  __aicore__ inline bool ByRow(int32_t input, const Chunk& chunk) const {
    const bool strided = tiling_->stride[input][0] != 0;
    return chunk.rows > 1 && tiling_->single[input] == 0 && (tiling_->dense[input] != 0) != strided;
  }

  __aicore__ inline LocalTensor<T> Elements(const LocalTensor<T>& local, int32_t input,
                                            const Chunk& chunk) const {
    const int32_t row = tiling_->stride[input][0] != 0 ? chunk.row : 0;
    return local[row * chunk.pitch + chunk.column];
  }

  __aicore__ inline float RowValue(int32_t input, const LocalTensor<T>& local, int32_t row) {
    if (tiling_->single[input] != 0) {
      return single_value_[input];
    }
    return Value(input, local, tiling_->stride[input][0] != 0 ? row : 0);
  }

  // float32 is computed in the output buffer, half types in a float buffer that is narrowed once at the end.
  __aicore__ inline void ComputeChunk(const LocalTensor<T>& out, const LocalTensor<T>* in,
                                      const Chunk& chunk) {
    LocalTensor<float> result;
    LocalTensor<float> other;
    if constexpr (kWiden) {
      result = work_;
      other = work_[tiling_->step];
      AscendC::PipeBarrier<PIPE_V>();  // the previous chunk has left the float buffers
    } else {
      result = out;
    }
    const LocalTensor<float> predict = Predict(result, in[kMsePredict], chunk);
    Subtract(result, predict, in[kMseLabel], other, chunk);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Muls(result, result, tiling_->scale, chunk.count);
    AscendC::PipeBarrier<PIPE_V>();
    Multiply(result, in[kMseDout], other, chunk);
    if constexpr (kWiden) {
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(out, result, Narrowing(), chunk.count);
    }
  }

  __aicore__ inline LocalTensor<float> Predict(const LocalTensor<float>& result, const LocalTensor<T>& in,
                                               const Chunk& chunk) {
    const bool by_row = ByRow(kMsePredict, chunk);
    if (tiling_->dense[kMsePredict] != 0 && !by_row) {
      return Widen(Elements(in, kMsePredict, chunk), result, chunk.count);
    }
    const int32_t length = by_row ? chunk.pitch : chunk.count;
    for (int32_t at = 0; at < chunk.count; at += length) {
      if (tiling_->dense[kMsePredict] == 0) {
        AscendC::Duplicate(result[at], RowValue(kMsePredict, in, chunk.row + at / chunk.pitch), length);
      } else if constexpr (kWiden) {
        AscendC::Cast(result[at], in, RoundMode::CAST_NONE, length);
      } else {
        AscendC::Muls(result[at], in, 1.0f, length);  // a copy; adding 0 would change -0 to +0
      }
    }
    AscendC::PipeBarrier<PIPE_V>();
    return result;
  }

  __aicore__ inline void Subtract(const LocalTensor<float>& result, const LocalTensor<float>& predict,
                                  const LocalTensor<T>& in, const LocalTensor<float>& other,
                                  const Chunk& chunk) {
    const bool by_row = ByRow(kMseLabel, chunk);
    const int32_t length = by_row ? chunk.pitch : chunk.count;
    if (tiling_->dense[kMseLabel] != 0) {
      const LocalTensor<float> label = Widen(Elements(in, kMseLabel, chunk), other, length);
      for (int32_t at = 0; at < chunk.count; at += length) {
        AscendC::Sub(result[at], predict[at], label, length);
      }
    } else {
      for (int32_t at = 0; at < chunk.count; at += length) {  // equals the subtraction by IEEE 754
        AscendC::Adds(result[at], predict[at], -RowValue(kMseLabel, in, chunk.row + at / chunk.pitch),
                      length);
      }
    }
  }

  __aicore__ inline void Multiply(const LocalTensor<float>& result, const LocalTensor<T>& in,
                                  const LocalTensor<float>& other, const Chunk& chunk) {
    const bool by_row = ByRow(kMseDout, chunk);
    const int32_t length = by_row ? chunk.pitch : chunk.count;
    if (tiling_->dense[kMseDout] != 0) {
      const LocalTensor<float> dout = Widen(Elements(in, kMseDout, chunk), other, length);
      for (int32_t at = 0; at < chunk.count; at += length) {
        AscendC::Mul(result[at], result[at], dout, length);
      }
    } else {
      for (int32_t at = 0; at < chunk.count; at += length) {
        AscendC::Muls(result[at], result[at], RowValue(kMseDout, in, chunk.row + at / chunk.pitch), length);
      }
    }
  }

  __aicore__ inline LocalTensor<float> Widen(const LocalTensor<T>& local, const LocalTensor<float>& buffer,
                                             int32_t count) {
    if constexpr (kWiden) {
      AscendC::Cast(buffer, local, RoundMode::CAST_NONE, count);
      AscendC::PipeBarrier<PIPE_V>();
      return buffer;
    } else {
      return local;
    }
  }

#if MSE_WHOLE_BLOCKS
  __aicore__ inline void CopyOut(const Tile& tile) {
    LocalTensor<T> out = output_.template DeQue<T>();
    const int32_t count = tile.rows * tile.columns;
    const int32_t whole = count / kBlock * kBlock;
    if (whole > 0) {
      AscendC::DataCopy(y_[static_cast<uint64_t>(tile.start)], out, static_cast<uint32_t>(whole));
    }
    if (whole < count) {
      WriteTail(tile.start, out, whole, count);
    }
    output_.FreeTensor(out);
  }

  // The scalar unit writes through a cache of 64-byte lines, which copies bypass. The tiling lets no other
  // core write to these lines.
  __aicore__ inline void WriteTail(int64_t start, const LocalTensor<T>& out, int32_t from, int32_t to) {
    // Earlier copies may write to the same lines. The copies wait for the results, and so does the scalar
    // unit.
    AscendC::SetFlag<HardEvent::MTE3_S>(copied_out_);
    AscendC::WaitFlag<HardEvent::MTE3_S>(copied_out_);
    CleanLines(start + from, start + to);  // drops what was cached before these copies
    for (int32_t i = from; i < to; ++i) {
      y_.SetValue(static_cast<uint64_t>(start + i), out.GetValue(static_cast<uint32_t>(i)));
    }
    CleanLines(start + from, start + to);
  }

  // A call handles its address up to the end of the line, so one per element covers any alignment of y.
  __aicore__ inline void CleanLines(int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      AscendC::DataCacheCleanAndInvalid<T, AscendC::CacheLine::SINGLE_CACHE_LINE>(
          y_[static_cast<uint64_t>(i)]);
    }
  }
#else
  __aicore__ inline void CopyOut(const Tile& tile) {
    LocalTensor<T> out = output_.template DeQue<T>();
    const AscendC::DataCopyExtParams shape(static_cast<uint16_t>(tile.rows),
                                           static_cast<uint32_t>(tile.columns * kSize), 0, 0, 0);
    AscendC::DataCopyPad(y_[static_cast<uint64_t>(tile.start)], out, shape);
    output_.FreeTensor(out);
  }
#endif

  const MseLossV2GradTilingData* tiling_;
  int64_t begin_;  // the part of y of this core
  int64_t end_;
  GlobalTensor<T> input_[kMseInputs];
  GlobalTensor<T> y_;
  TQue<TPosition::VECIN, 1> queue_[kMseInputs];
  TQue<TPosition::VECOUT, 1> output_;
  TBuf<TPosition::VECCALC> work_buffer_;
  TBuf<TPosition::VECCALC> value_buffer_;
  LocalTensor<float> work_;
  LocalTensor<float> values_;
  float single_value_[kMseInputs];  // values of the inputs with one element
  int32_t scalar_ready_;            // event id
#if MSE_WHOLE_BLOCKS
  struct Tail {
    int64_t from;  // in GM
    int32_t to;    // in UB
    int32_t count;
  };
  Tail tail_[kMseInputs];  // of the tile being loaded
  int32_t tail_filled_;    // event ids
  int32_t copied_out_;
#endif
};

}  // namespace mse_loss_v2_grad_op

#endif
