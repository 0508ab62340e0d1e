"""What the commands print: progress, results, tables, pictures."""

from __future__ import annotations

import io
import json
import os

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mseloss.cli import files


def progress(quiet):
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


def plot(report, path):
    """Draws the report in memory, then writes the file as results are written."""
    picture = io.BytesIO()
    kind = os.path.splitext(path)[1].lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise files.FileError(f"{path}: expected a name that ends in .png, .svg, .pdf; rename it")
    report.plot(picture, kind)
    files.write_bytes(path, picture.getvalue())


def written(out, shape, dtype, as_json):
    if out != files.STANDARD:
        size = " x ".join(map(str, shape)) or "one element of"
        facts(
            {"out": out, "shape": list(shape), "dtype": dtype},
            f"{out}: {size} {dtype}",
            as_json,
        )


def facts(values, sentence, as_json):
    """Prints values as JSON, or the sentence that says the same."""
    files.faults.check()
    text(json.dumps(values, indent=2) if as_json else sentence)


def table(rows):
    console = Console()
    with console.capture() as captured:
        console.print(rows)
    text(captured.get().rstrip("\n"))


def text(line):
    """Prints to standard output. Raises FileError if that fails: on EPIPE click would exit with status 1."""
    try:
        print(line, flush=True)
    except OSError as error:
        raise files.FileError(f"standard output: {error.strerror}") from None
