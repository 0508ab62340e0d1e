#!/usr/bin/env python3
"""Writes variants of the shipped CUDA kernels, each with one seeded defect, for defects_test.cpp.

A defect is a text replacement in one kernel header. The script fails if the text is not found exactly
once, so the table stays current. Each variant is a namespace that compiles only the kernels named with it;
a table of the shipped kernels with these replaced runs the battery.
usage: defects.py KERNELS_DIR OUTPUT_DIR FILES
"""

import pathlib
import re
import sys

HEADERS = ["numbers.h", "elements.h", "elementwise.h", "tile.h", "sums.h", "exact.h"]

DENSE = {
    "kDenseGrad": "dense<Float32, Op::kGrad, false>",
    "kDenseGrad + 1": "dense<Float16, Op::kGrad, false>",
}
ROWS = {
    "kRowsGrad": "dense<Float32, Op::kGrad, true>",
    "kRowsGrad + 1": "dense<Float16, Op::kGrad, true>",
}
GENERAL = {"kGeneral": "general<float>", "kGeneral + 1": "general<double>"}
TILE = {"kTile": "tile<float>", "kTile + 1": "tile<double>"}
DENSE_SUM = {
    "kDenseSum": "dense_sum<Float32, false>",
    "kDenseSum + 3": "dense_sum<Float64, false>",
}
SUM = {"kGeneralSum": "general_sum<float>", "kGeneralSum + 1": "general_sum<double>"}
EXACT = {"kExactSum": "exact_sum<float>", "kExactSum + 1": "exact_sum<double>"}

# name, header, text, replacement, kernels
DEFECTS = [
    (
        "tail of a dense operand lost",
        "elementwise.h",
        "index < a.numel) tail_visit",
        "index + 1 < a.numel) tail_visit",
        DENSE,
    ),
    (
        "tail written by every block",
        "elementwise.h",
        "block == blocks - 1 && index < a.numel",
        "index < a.numel",
        DENSE,
    ),
    (
        "unaligned vector load",
        "elementwise.h",
        "uint4>(operand.address + offset)",
        "uint4>(operand.address + offset + (offset > 0 ? 2 : 0))",
        DENSE,
    ),
    (
        "load past the last chunk",
        "elementwise.h",
        "if (chunk < chunks) in[u] =",
        "if (chunk <= chunks) in[u] =",
        DENSE,
    ),
    (
        "32-bit offset of a chunk",
        "elementwise.h",
        "store_lanes(a.address[kOut] + in.out,",
        "store_lanes(a.address[kOut] + static_cast<int32_t>(in.out),",
        DENSE,
    ),
    (
        "row's broadcast element read once",
        "elementwise.h",
        "kRows ? load<typename S::Bits>(operand.address + offset) : operand.single;",
        "operand.single;",
        ROWS,
    ),
    (
        "column of a chunk not reduced to its row",
        "elementwise.h",
        "column -= static_cast<int64_t>(row) * a.row_chunks;",
        "",
        ROWS,
    ),
    (
        "scale applied last",
        "elements.h",
        "const C scaled = multiply(subtract(e.input, e.target), e.scale);\n"
        "  return multiply(scaled, weighted ? multiply(e.weight, e.grad_output) : e.grad_output);",
        "const C scaled = multiply(subtract(e.input, e.target), weighted ? multiply(e.weight, "
        "e.grad_output) : e.grad_output);\n  return multiply(scaled, e.scale);",
        GENERAL,
    ),
    (
        "32-bit index",
        "elementwise.h",
        "const int64_t index = first + u * kThreads + threadIdx.x;\n      if (index >= numel) continue;",
        "const int32_t index = static_cast<int32_t>(first + u * kThreads + threadIdx.x);\n"
        "      if (index >= numel) continue;",
        GENERAL,
    ),
    (
        "32-bit offset of an element",
        "elements.h",
        "offsets->at[o] += index * a.view[o].stride[dimension];",
        "offsets->at[o] += static_cast<int32_t>(index * a.view[o].stride[dimension]);",
        GENERAL,
    ),
    (
        "reciprocal shifted too far",
        "elements.h",
        ">> divisor.shift;",
        ">> (divisor.shift + 1);",
        GENERAL,
    ),
    (
        "mask ignored in the gradient",
        "elements.h",
        "if (a.masked && e.weight == 0) return 0;\n  return gradient",
        "return gradient",
        SUM,
    ),
    (
        "scale of a slice ignored",
        "elements.h",
        "present(a, kScaleView) ? bits_as<double>(raw.scale) : a.scale",
        "a.scale",
        SUM,
    ),
    (
        "float64 rounded twice",
        "numbers.h",
        "narrow(round_to_odd(value), dtype)",
        "narrow(__double2float_rn(value), dtype)",
        GENERAL,
    ),
    (
        "dtype of the plan skipped",
        "numbers.h",
        "return narrow(widen<C>(bits, first), second);",
        "return narrow(value, second);",
        GENERAL,
    ),
    (
        "missing barrier before a tile is read",
        "tile.h",
        "    __syncthreads();\n    for (int r = slow;",
        "    for (int r = slow;",
        TILE,
    ),
    (
        "missing barrier before a tile is written back",
        "tile.h",
        "    __syncthreads();\n    MSELOSS_UNROLL\n    for (int o = kOut; o <= kLossOut; ++o) {\n"
        "      if ((a.transposed",
        "    MSELOSS_UNROLL\n    for (int o = kOut; o <= kLossOut; ++o) {\n      if ((a.transposed",
        TILE,
    ),
    (
        "tile not clipped to its columns",
        "tile.h",
        "if (fast >= position.columns) continue;",
        "",
        TILE,
    ),
    (
        "missing fence before the ticket",
        "sums.h",
        "    __threadfence();  // releases what the whole block wrote before the barrier\n",
        "",
        DENSE_SUM,
    ),
    (
        "missing fence after the ticket",
        "sums.h",
        "    __threadfence();  // acquires what the other blocks released\n",
        "",
        DENSE_SUM,
    ),
    (
        "missing barrier before the ticket",
        "sums.h",
        "const Shared<uint32_t>& flag) {\n  __syncthreads();\n  if",
        "const Shared<uint32_t>& flag) {\n  if",
        SUM,
    ),
    (
        "partial sums read through L1",
        "sums.h",
        "return {load_coherent<double>(address), load_coherent<double>(address + 8),",
        "return {load<double>(address), load_coherent<double>(address + 8),",
        DENSE_SUM,
    ),
    ("no block is the last", "sums.h", "== blocks - 1)", "== blocks)", DENSE_SUM),
    (
        "barrier in a divergent branch",
        "sums.h",
        "    if (team.lane >= half) continue;\n",
        "    if (team.lane >= half) return terms;\n",
        DENSE_SUM,
    ),
    ("lane lost in the tree", "sums.h", "half > 0; half /= 2", "half > 1; half /= 2", DENSE_SUM),
    (
        "bound of zero",
        "sums.h",
        "depth * kUnit * sum.squares.high * kSlack",
        "0 * depth",
        DENSE_SUM,
    ),
    ("mask ignored in the sum", "sums.h", "    if (e.weight == 0) return;\n", "", SUM),
    (
        "partial sums of slices collide",
        "sums.h",
        "(slice * gridDim.y + part) * sizeof(Terms)",
        "(slice + part) * sizeof(Terms)",
        SUM,
    ),
    (
        "cells of an undecided slice not cleared",
        "sums.h",
        "if (decided || a.digits == 0) return;",
        "return;",
        DENSE_SUM,
    ),
    (
        "racing digit",
        "exact.h",
        "if (digit != 0) memory.cells.add(cell, negative ? -digit : digit);",
        "if (digit != 0) memory.cells.store(cell, memory.cells.load(cell) + (negative ? -digit : digit));",
        EXACT,
    ),
    ("sign of a digit lost", "exact.h", "negative ? -digit : digit);", "digit);", EXACT),
    ("cells overflow", "exact.h", "if (used + kTileAdditions > kCellRoom)", "if (used < 0)", EXACT),
    (
        "missing barrier before the cells move",
        "exact.h",
        "MSELOSS_DEVICE void flush(const ExactMemory& memory) {\n  __syncthreads();",
        "MSELOSS_DEVICE void flush(const ExactMemory& memory) {",
        EXACT,
    ),
    ("carry lost between limbs", "exact.h", "+ (low >> 16);", ";", EXACT),
    ("spilled bits lost", "exact.h", "if (spilled != 0)", "if (spilled == 1)", EXACT),
    (
        "stored gradient left for any factor",
        "elementwise.h",
        "S::widen(operands.grad_output.single) == 1",
        "S::widen(operands.grad_output.single) != 0",
        DENSE,
    ),
    ("stored gradient left, any layout", "elements.h", "g.dtype) == 1;", "g.dtype) != 0;", GENERAL),
    (
        "factor compared as float32",
        "elements.h",
        "widen<double>(load_bits(g.address",
        "widen<float>(load_bits(g.address",
        GENERAL,
    ),
    (
        "state of a sum without its bound",
        "sums.h",
        "store(to + 16, sum.error);",
        "store(to + 16, 0.0);",
        DENSE_SUM,
    ),
    (
        "state of a sum by every block",
        "sums.h",
        "if (!is_last(a.tickets + group * 4, gridDim.y, flag)) return;",
        "if (!is_last(a.tickets + group * 4, gridDim.y, flag) && a.kind != Result::kState) return;",
        SUM,
    ),
    (
        "limbs of the weights' sum not copied",
        "exact.h",
        "i < 2 * kLimbs; ++i) store(",
        "i < kLimbs; ++i) store(",
        EXACT,
    ),
    ("undecided slice skipped", "exact.h", "if (!a.always && ", "if (!a.always || ", EXACT),
]


def body(folder, header):
    text = (folder / header).read_text()
    text = re.sub(r"^#(pragma once|include .*)\n", "", text, flags=re.M)
    text = re.sub(r"^namespace mseloss::cuda \{\n", "", text, flags=re.M)
    return re.sub(r"^\}  // namespace mseloss::cuda\n", "", text, flags=re.M)


def main():
    folder, output, files = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    texts = {header: body(folder, header) for header in HEADERS}
    parts = [[] for _ in range(files)]
    for number, (name, header, old, new, kernels) in enumerate(DEFECTS):
        if texts[header].count(old) != 1:
            sys.exit(
                f"defects.py: {name}: the text occurs {texts[header].count(old)} times in {header}: {old}"
            )
        variant = {**texts, header: texts[header].replace(old, new)}
        lines = [f"namespace mseloss::cuda::defect_{number} {{", *variant.values()]
        lines += ["void fill(model::Table* table) { const model::Fill fill{table};"]
        lines += [f"  fill({kernel}, {function});" for kernel, function in kernels.items()]
        lines += ["}", f'const battery::Defect registered("{name}", &fill);', "}"]
        parts[number % files].append("\n".join(lines))
    includes = (
        '#define MSELOSS_CUDA_MODEL\n#include "cuda/driver.h"\n#include "cuda/kernels/language.h"\n'
        '#include "cuda/model/model.h"\n#include "numerics/rounding_test.h"\n'
        '#include "tests/cuda/defects.h"\n'
    )
    for i, part in enumerate(parts):
        (output / f"defects_{i}.cpp").write_text(includes + "\n".join(part))


if __name__ == "__main__":
    main()
