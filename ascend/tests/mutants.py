#!/usr/bin/env python3
"""Writes variants of the shipped kernel and tiling, each with one seeded defect, for mutants_test.cpp.

A defect is a text replacement in the shipped source; line breaks are ignored. The script fails if the
text is not found, so the table stays current. usage: mutants.py ASCEND_DIR OUTPUT_DIR
"""

import pathlib
import re
import sys

KERNEL = "op_kernel/mse_loss_v2_grad.h"
SPLIT = "op_host/mse_loss_v2_grad_split.h"
TILING = "op_host/mse_loss_v2_grad_tiling.cpp"
ENTRY = "op_kernel/mse_loss_v2_grad.cpp"

# name, file, text, replacement. "original N" is the defect's number in docs/ascend.md.
MUTANTS = [
    (
        "lost tail of a row",
        KERNEL,
        "static_cast<uint32_t>(tile.columns * kSize), 0,\n                                  0, 0);",
        "static_cast<uint32_t>(tile.columns / kBlock * kBlock * kSize), 0, 0, 0);",
    ),
    (
        "last tile longer than what is left (original 6)",
        KERNEL,
        "Min(Min(tiling_->row_length - tile.column, left), tiling_->tile)",
        "Min(tiling_->row_length - tile.column, tiling_->tile)",
    ),
    (
        "core's end not clipped to the tensor",
        KERNEL,
        "Min(begin_ + units * tiling->unit, tiling->total)",
        "begin_ + units * tiling->unit",
    ),
    (
        "two cores overlap",
        KERNEL,
        "(core < extra ? core : extra)",
        "(core < extra ? core : extra - (extra > 0))",
    ),
    (
        "rounded-up read past the tensor",
        KERNEL,
        "Load(input, Offset(input, tile), rows, tile.columns)",
        "Load(input, Offset(input, tile), rows, (tile.columns + kBlock - 1) / kBlock * kBlock)",
    ),
    (
        "whole-block DataCopy for the output",
        KERNEL,
        "AscendC::DataCopyPad(y_[static_cast<uint64_t>(tile.start)], out, shape)",
        "AscendC::DataCopy(y_[static_cast<uint64_t>(tile.start)], out, static_cast<uint32_t>(tile.columns))",
    ),
    (
        "32-bit output offset",
        KERNEL,
        "y_[static_cast<uint64_t>(tile.start)]",
        "y_[static_cast<uint32_t>(tile.start)]",
    ),
    (
        "32-bit input offset",
        KERNEL,
        "input_[input][static_cast<uint64_t>(offset)]",
        "input_[input][static_cast<uint32_t>(offset)]",
    ),
    (
        "final cast counts 3 tiles (original 1)",
        KERNEL,
        "AscendC::Cast(out, result, Narrowing(), chunk.count)",
        "AscendC::Cast(out, result, Narrowing(), 3 * tiling_->tile)",
    ),
    (
        "narrowing truncates",
        KERNEL,
        "return RoundMode::CAST_RINT",
        "return RoundMode::CAST_TRUNC",
    ),
    (
        "narrowing rounds half away",
        KERNEL,
        "return RoundMode::CAST_RINT",
        "return RoundMode::CAST_ROUND",
    ),
    (
        "widening with a mode that emits nothing",
        KERNEL,
        "AscendC::Cast(buffer, local, RoundMode::CAST_NONE, count)",
        "AscendC::Cast(buffer, local, RoundMode::CAST_RINT, count)",
    ),
    (
        "no barrier after the subtraction",
        KERNEL,
        "    AscendC::PipeBarrier<PIPE_V>();\n    AscendC::Muls(result, result, tiling_->scale",
        "    AscendC::Muls(result, result, tiling_->scale",
    ),
    (
        "no barrier after widening",
        KERNEL,
        "count);\n      AscendC::PipeBarrier<PIPE_V>();\n      return buffer;",
        "count);\n      return buffer;",
    ),
    (
        "no barrier between chunks",
        KERNEL,
        "      AscendC::PipeBarrier<PIPE_V>();  // the previous chunk has left the float buffers\n",
        "",
    ),
    (
        "scalar unit does not wait for values",
        KERNEL,
        "    AscendC::SetFlag<HardEvent::V_S>(scalar_ready_);\n    AscendC::WaitFlag<HardEvent::V_S>(scalar_ready_);\n",
        "",
    ),
    (
        "event set and not waited for",
        KERNEL,
        "    AscendC::WaitFlag<HardEvent::V_S>(scalar_ready_);\n",
        "",
    ),
    (
        "wait for an event nobody sets",
        KERNEL,
        "    AscendC::SetFlag<HardEvent::V_S>(scalar_ready_);\n",
        "",
    ),
    (
        "wait in the wrong direction",
        KERNEL,
        "AscendC::SetFlag<HardEvent::V_S>(scalar_ready_);\n    AscendC::WaitFlag<HardEvent::V_S>",
        "AscendC::SetFlag<HardEvent::S_V>(scalar_ready_);\n    AscendC::WaitFlag<HardEvent::S_V>",
    ),
    (
        "rows' padding left undefined",
        KERNEL,
        "padding.isPad = padding.rightPadding != 0;",
        "padding.isPad = false;",
    ),
    (
        "queue filled beyond its depth",
        KERNEL,
        "      CopyIn(tile);\n",
        "      CopyIn(tile);\n      CopyIn(tile);\n",
    ),
    (
        "TQueConfig of one buffer (original 2)",
        KERNEL,
        "  TQue<TPosition::VECIN, 1> queue_[kMseInputs];",
        "  static constexpr AscendC::TQueConfig kOne{1, 0};\n  TQue<TPosition::VECIN, 1, &kOne> queue_[kMseInputs];",
    ),
    ("no double buffering of inputs", KERNEL, "tiling_->single[input] != 0 ? 1 : 2", "1"),
    (
        "no double buffering of the output",
        KERNEL,
        "InitBuffer(output_, 2,",
        "InitBuffer(output_, 1,",
    ),
    ("tensor never freed", KERNEL, "    output_.FreeTensor(out);\n", ""),
    (
        "tensor freed before it is copied out",
        KERNEL,
        "    AscendC::DataCopyPad(y_[",
        "    output_.FreeTensor(out);\n    AscendC::DataCopyPad(y_[",
    ),
    (
        "queued before it is copied in",
        KERNEL,
        "    AscendC::DataCopyPad(local, input_[input][static_cast<uint64_t>(offset)], shape, padding);\n    queue_[input].EnQue(local);\n",
        "    queue_[input].EnQue(local);\n    AscendC::DataCopyPad(local, input_[input][static_cast<uint64_t>(offset)], shape, padding);\n",
    ),
    (
        "float buffers overlap",
        KERNEL,
        "other = work_[tiling_->step];",
        "other = work_[tiling_->step / 16 * 8];",
    ),
    (
        "rows not at 32 bytes",
        KERNEL,
        "(tile.columns + kBlock - 1) / kBlock * kBlock;  //",
        "tile.columns;  //",
    ),
    (
        "scale applied last",
        KERNEL,
        "AscendC::Muls(result, result, tiling_->scale, chunk.count);",
        "AscendC::Muls(result, result, 1.0f, chunk.count);",
    ),
    (
        "label and predict exchanged",
        KERNEL,
        "AscendC::Sub(result[at], predict[at], label, length)",
        "AscendC::Sub(result[at], label, predict[at], length)",
    ),
    (
        "a buffer short of its copy",
        KERNEL,
        "static_cast<uint32_t>(tiling->tile * kSize)",
        "static_cast<uint32_t>(tiling->tile * kSize - 32)",
    ),
    (
        "work split over the wrong block count",
        KERNEL,
        "const int64_t core = AscendC::GetBlockIdx();",
        "const int64_t core = AscendC::GetBlockIdx() / 2;",
    ),
    (
        "32-bit count (original 3)",
        SPLIT,
        "t->total = Count(call.y);",
        "t->total = static_cast<uint32_t>(Count(call.y));",
    ),
    (
        "scale from a product in float (original 4)",
        SPLIT,
        "MeanScale(static_cast<uint64_t>(t->size[kMsePredict]))",
        "1.0f / static_cast<float>(t->size[kMsePredict]) * 2.0f",
    ),
    (
        "scale rounded twice",
        SPLIT,
        "MeanScale(static_cast<uint64_t>(t->size[kMsePredict]))",
        "static_cast<float>(2.0 / static_cast<double>(t->size[kMsePredict]))",
    ),
    (
        "scale of the broadcast count",
        SPLIT,
        "MeanScale(static_cast<uint64_t>(t->size[kMsePredict]))",
        "MeanScale(static_cast<uint64_t>(t->total))",
    ),
    ("tile from the whole UB (original 5)", SPLIT, "kReservedUb = 8192;", "kReservedUb = 0;"),
    (
        "second buffer forgotten",
        SPLIT,
        "int64_t bytes = 2 * element_size;",
        "int64_t bytes = element_size;",
    ),
    (
        "cores not split by 512 bytes (original 7)",
        SPLIT,
        "t->unit = kUnitBytes / element_size;",
        "t->unit = 1;",
    ),
    (
        "remainder on one core (original 7)",
        SPLIT,
        "t->extra_cores = units % cores;",
        "t->extra_cores = units % cores > 0 ? 1 : 0;",
    ),
    (
        "few cores for a middling tensor (original 7)",
        SPLIT,
        "kBytesPerCore = 4096;",
        "kBytesPerCore = 32768;",
    ),
    (
        "more blocks than cores",
        SPLIT,
        "Max(1, Min(platform.cores, ",
        "Max(1, Min(platform.cores + 1, ",
    ),
    (
        "unknown reduction acts as sum (original 8)",
        TILING,
        "if (!call->mean && std::strcmp",
        "if (false && std::strcmp",
    ),
    (
        "unequal dtypes accepted (original 8)",
        TILING,
        "if (desc->GetDataType() != dtype) {",
        "if (false) {",
    ),
    (
        "label and dout never compared (original 8)",
        SPLIT,
        "if (dim != 1 && merged != 1 && dim != merged) {",
        "if (false) {",
    ),
    (
        "dimensions merged although dout repeats",
        SPLIT,
        "} else if (pattern == last_pattern) {",
        "} else if ((pattern & 3U) == (last_pattern & 3U)) {",
    ),
    (
        "too few slots for values",
        SPLIT,
        "t->value_slots = value_per_row ? max_rows : 8;",
        "t->value_slots = 8;",
    ),
    ("a workspace nobody uses", TILING, "workspace[0] = 0;", "workspace[0] = 32;"),
]

# Defects of the code for Ascend 310P, run on that chip.
MUTANTS_310P = [
    ("elements after the last block not loaded", KERNEL, "    FillTail(input, local);\n", ""),
    (
        "elements after the last block not written",
        KERNEL,
        "      WriteTail(tile.start, out, whole, count);\n",
        "",
    ),
    (
        "input copy rounded up to a block",
        KERNEL,
        "const int32_t count = rows * elements; const int32_t whole = count / kBlock * kBlock;",
        "const int32_t count = rows * elements; const int32_t whole = (count + kBlock - 1) / kBlock * kBlock;",
    ),
    (
        "output copy rounded up to a block",
        KERNEL,
        "const int32_t count = tile.rows * tile.columns; const int32_t whole = count / kBlock * kBlock;",
        "const int32_t count = tile.rows * tile.columns; const int32_t whole = (count + kBlock - 1) / kBlock * kBlock;",
    ),
    (
        "output copy of a part block",
        KERNEL,
        "const int32_t count = tile.rows * tile.columns; const int32_t whole = count / kBlock * kBlock;",
        "const int32_t count = tile.rows * tile.columns; const int32_t whole = count;",
    ),
    (
        "buffer filled while it may still be read",
        KERNEL,
        "    WaitForValues();  // vector instructions may still read the buffer's previous contents\n",
        "",
    ),
    (
        "vector unit does not wait for the scalar unit",
        KERNEL,
        "    AscendC::SetFlag<HardEvent::S_V>(tail_filled_);\n    AscendC::WaitFlag<HardEvent::S_V>(tail_filled_);\n",
        "",
    ),
    (
        "results read, and cache line written, too early",
        KERNEL,
        "    AscendC::SetFlag<HardEvent::MTE3_S>(copied_out_);\n    AscendC::WaitFlag<HardEvent::MTE3_S>(copied_out_);\n",
        "",
    ),
    (
        "stale cache line not dropped",
        KERNEL,
        "    CleanLines(start + from, start + to);  // drops what was cached before these copies\n",
        "",
    ),
    (
        "cache never written back",
        KERNEL,
        "    }\n    CleanLines(start + from, start + to);\n  }",
        "    }\n  }",
    ),
    (
        "only the first cache line written back",
        KERNEL,
        "for (int64_t i = from; i < to; ++i) { AscendC::DataCacheCleanAndInvalid",
        "for (int64_t i = from; i < from + 1; ++i) { AscendC::DataCacheCleanAndInvalid",
    ),
    (
        "round mode of other chips",
        KERNEL,
        "return RoundMode::CAST_NONE",
        "return RoundMode::CAST_RINT",
    ),
    (
        "rows that share cache lines on several cores",
        SPLIT,
        "  if (split_rows) {\n    platform.cores = 1;",
        "  if (false) {\n    platform.cores = 1;",
    ),
    (
        "several rows that are no whole blocks in a tile",
        SPLIT,
        "  if (split_rows) {\n    t->tile_rows = 1;",
        "  if (false) {\n    t->tile_rows = 1;",
    ),
    (
        "bfloat16 accepted",
        TILING,
        "if (dtype == ge::DT_BF16 && platform.whole_blocks) {",
        "if (false) {",
    ),
]

TEMPLATE = """// Generated: {name}.
#include "model/report.h"
{sources}
#include "mutants_test.h"

namespace ascend_tests {{
const Mutant& Mutant{index}() {{
  static const Mutant mutant = {{"{name}", ascend_model::Chip::{chip}, {{{{{kernels}}}, {tiling}}}}};
  return mutant;
}}
}}  // namespace ascend_tests
"""

# table, first index, chip and its number, dtypes
TABLES = (
    (MUTANTS, 0, "kAtlasA2", 0, ("float", "half", "bfloat16_t")),
    (MUTANTS_310P, 1000, "kAscend310P", 1, ("float", "half")),
)


def pattern(text):
    """A pattern that matches the text with any line breaks and indentation."""
    return re.compile(
        r"\s+".join(re.escape(word).replace(r"\(", r"\(\s*") for word in text.split())
    )


def kernel_source(index, path, dtypes):
    parts = []
    for dtype in dtypes:
        parts += [
            f"#define DTYPE_PREDICT {dtype}",
            f"#define mse_loss_v2_grad mutant_{index}_{dtype}",
            f"#define mse_loss_v2_grad_op mutant_{index}_{dtype}_op",
            "#undef MSE_LOSS_V2_GRAD_H",
            f'#include "{path}"',
            f'#include "{ENTRY}"',  # its own include of the shipped header has no effect
            "#undef DTYPE_PREDICT",
            "#undef mse_loss_v2_grad",
            "#undef mse_loss_v2_grad_op",
        ]
    return "\n".join(parts), ", ".join(f"mutant_{index}_{dtype}" for dtype in dtypes)


def tiling_source(index, path, file):
    parts = [f"#define optiling optiling_{index}", "#undef MSE_LOSS_V2_GRAD_SPLIT_H"]
    parts.append(f'#include "{path}"')
    if file == SPLIT:
        parts.append(f'#include "{TILING}"')
    return "\n".join([*parts, "#undef optiling"])


def main():
    root, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for table, first, chip, chip_number, dtypes in TABLES:
        for index, (name, file, text, replacement) in enumerate(table, first):
            source = (root / file).read_text()
            source, found = pattern(text).subn(lambda _, text=replacement: text, source)
            if found == 0:
                sys.exit(f"mutants.py: {name}: its text is no longer in {file}")
            for header in ("op_kernel/mse_loss_v2_grad_tiling.h", SPLIT):
                source = re.sub(
                    rf'"(\.\./op_kernel/)?{header.split("/")[1]}"', f'"{header}"', source
                )
            mutated = out / f"source_{index}.inc"
            write(mutated, source)
            if file == KERNEL:
                sources, kernels = kernel_source(index, mutated.name, dtypes)
                tiling = "ascend_model::MseLossV2Grad().tiling"
            else:
                sources = tiling_source(index, mutated.name, file)
                tiling = f"optiling_{index}::TilingMseLossV2Grad"
                kernels = ", ".join(
                    f"ascend_model::MseLossV2Grad().kernel[{chip_number}][{i}]"
                    for i in range(len(dtypes))
                )
            write(
                out / f"mutant_{index}.cpp",
                TEMPLATE.format(
                    index=index,
                    name=name,
                    sources=sources,
                    chip=chip,
                    kernels="{}, " * chip_number + "{" + kernels + "}",
                    tiling=tiling,
                ),
            )
    indices = [i for table, first, *_ in TABLES for i in range(first, first + len(table))]
    declare = "".join(f"const Mutant& Mutant{i}();\n" for i in indices)
    calls = ", ".join(f"&Mutant{i}()" for i in indices)
    write(
        out / "mutants_list.cpp",
        f'#include "mutants_test.h"\n\nnamespace ascend_tests {{\n{declare}'
        f"std::vector<const Mutant*> AllMutants() {{ return {{{calls}}}; }}\n}}  // namespace ascend_tests\n",
    )
    print(*(len(table) for table, *_ in TABLES))


def write(path, text):
    if not path.exists() or path.read_text() != text:  # keep the time stamps of unchanged files
        path.write_text(text)


main()
