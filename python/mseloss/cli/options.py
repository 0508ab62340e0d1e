"""The arguments and options that several commands share."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

_SIZE = re.compile(r"([0-9]+)([kKMGT]?)(i?)", re.ASCII)


class Reduction(StrEnum):
    none = "none"
    mean = "mean"
    sum = "sum"


class DType(StrEnum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float64 = "float64"


class Operator(StrEnum):
    grad = "grad"
    loss = "loss"


Input = Annotated[str, typer.Argument(help="array file with the predictions", metavar="INPUT")]
Target = Annotated[str, typer.Argument(help="array file with the targets", metavar="TARGET")]
ReductionOption = Annotated[
    Reduction, typer.Option("--reduction", "-r", help="reduction of the loss")
]
GradOutput = Annotated[
    str,
    typer.Option("--grad-output", "-g", help="incoming gradient: a number or an array file"),
]
Weight = Annotated[
    str | None,
    typer.Option(
        "--weight",
        "-w",
        help="array file with weights or a bool mask; broadcasts with INPUT and TARGET",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]
Converted = Annotated[
    DType | None, typer.Option("--dtype", help="dtype of the result; default: that of the input")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="let OUT replace an input")]


def size(text):
    """A number of elements; a suffix multiplies it by a power of 1000 (1M) or 1024 (1Mi)."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise typer.BadParameter(
            f"{text!r} is not a size; give a whole number such as 100000, 1M or 64Ki"
        )
    count = int(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " ")
    if not 0 < count < 2**63:
        raise typer.BadParameter(f"{text} elements; give 1 to 2^63 - 1")
    return count
