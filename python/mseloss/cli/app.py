"""The command line: its commands and options."""

from __future__ import annotations

import sys
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

import mseloss
from mseloss.cli import bench as benchmark
from mseloss.cli import chunked, files, machine, options, output, sliced
from mseloss.cli.exit import NOT_EQUAL, guarded
from mseloss.cli.options import (
    Converted,
    DType,
    Force,
    GradOutput,
    Input,
    Json,
    Operator,
    Reduction,
    ReductionOption,
    Target,
    Weight,
)
from mseloss.report.report import MAX_TOLERANCE

_EPILOG = (
    "An array is given as a file, x.npy, x.npz or x.safetensors, or as a Zarr store, x.zarr; append :NAME to "
    "select one of several arrays. Files may be larger than memory. - is standard input or output."
)
app = typer.Typer(
    name="mseloss",
    help="The mean-squared-error loss and its gradient for arrays in files: exact and bitwise reproducible.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog=_EPILOG)
def grad(
    input: Input,
    target: Target,
    out: Annotated[str, typer.Option("--out", "-o", help="array file for the gradient")],
    grad_output: GradOutput = "1",
    reduction: ReductionOption = Reduction.mean,
    weight: Weight = None,
    dtype: Converted = None,
    force: Force = False,
    as_json: Json = False,
):
    """Write the gradient of the loss with respect to INPUT.

    With --weight a mean divides by the sum of the weights, and the gradient is computed in memory.

    Example: mseloss grad pred.npy label.npy -o grad.npy
    """
    names = (grad_output, input, target, weight)
    _check_standard(names, out, as_json)
    x, y = files.read(input), files.read(target)
    g = _number_or_array(grad_output)
    converted = dtype and dtype.value
    w = None if weight is None else files.read(weight, weight=True)
    given = [n for n, a in zip(names, (g, x, y, w), strict=True) if hasattr(a, "shape")]
    files.check_inputs(out, "grad_input", given, force)
    if _through_dask(out, g, x, y, w):
        from mseloss.cli import lazy

        with output.progress(as_json) as progress:
            shape, result = lazy.grad(g, x, y, w, names, reduction.value, out, converted, progress)
    elif weight is not None:
        shape, result = sliced.grad(g, x, y, w, names, reduction.value, out, converted)
    else:
        names = names[:3]
        with output.progress(as_json) as progress:
            shape, result = chunked.grad(g, x, y, names, reduction.value, out, converted, progress)
    output.written(out, shape, result, as_json)


@app.command(epilog=_EPILOG)
def loss(
    input: Input,
    target: Target,
    reduction: ReductionOption = Reduction.mean,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="array file for the result; required for --reduction none"
        ),
    ] = None,
    weight: Weight = None,
    axis: Annotated[
        list[int] | None,
        typer.Option("--axis", "-a", help="a dimension to reduce; may be repeated; default: all"),
    ] = None,
    dtype: Converted = None,
    force: Force = False,
    as_json: Json = False,
):
    """Print the correctly rounded loss; with --reduction none or --axis, write the losses to a file.

    Example: mseloss loss pred.npy label.npy --reduction sum
    """
    names = (input, target, weight)
    _check_standard(names, out, as_json)
    x, y = files.read(input), files.read(target)
    w = None if weight is None else files.read(weight, weight=True)
    for option, given in (("--reduction none", reduction is Reduction.none), ("--axis", axis)):
        if given and out is None:
            raise files.FileError(
                f"--out: missing, {option} has a result for a file; give its name"
            )
    if out is not None:
        files.check_inputs(out, "loss", [name for name in names if name is not None], force)
    converted = dtype and dtype.value
    if _through_dask(out, x, y, w):
        from mseloss.cli import lazy

        with output.progress(as_json) as progress:
            value, shape, result = lazy.loss(
                x, y, w, names, reduction.value, axis, out, converted, progress
            )
    elif axis:
        value, shape, result = sliced.loss(x, y, w, names, reduction.value, axis, out, converted)
    else:
        with output.progress(as_json) as progress:
            value, shape, result = chunked.loss(
                x, y, w, names, reduction.value, out, converted, progress
            )
    if value is None:
        output.written(out, shape, result, as_json)
    elif out != files.STANDARD:
        number = float(value)
        shown = number if np.isfinite(number) else str(number)
        output.facts({"loss": shown, "dtype": result, "out": out}, str(value), as_json)


@app.command(epilog=_EPILOG)
def check(
    actual: Annotated[
        str, typer.Argument(help="array file with the result to check", metavar="ACTUAL")
    ],
    expected: Annotated[
        str | None,
        typer.Argument(
            help="array file with the expected result; or give --input and --target",
            metavar="[EXPECTED]",
        ),
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", "-x", help="input of the operator")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-y", help="target of the operator")
    ] = None,
    grad_output: GradOutput = "1",
    reduction: ReductionOption = Reduction.mean,
    operator: Annotated[
        Operator, typer.Option("--operator", help="operator that computed ACTUAL")
    ] = Operator.grad,
    tolerance: Annotated[
        int,
        typer.Option(
            "--tolerance",
            "-t",
            min=0,
            max=MAX_TOLERANCE,
            help="allowed error in ULP of ACTUAL's dtype",
        ),
    ] = 1,
    worst: Annotated[
        int, typer.Option("--worst", min=0, help="number of worst elements to list")
    ] = 10,
    plot: Annotated[
        str | None, typer.Option("--plot", help="write a figure of the errors: .png, .svg, .pdf")
    ] = None,
    as_json: Json = False,
):
    """Check a result against another array, or against the golden result computed from the inputs.

    Exit status: 0 equal within the tolerance, 1 not equal, 2 invalid usage or input.

    Examples:

    mseloss check device.npy golden.npy

    mseloss check device.npy --input x.npy --target y.npy --grad-output g.npy --plot errors.png
    """
    if expected is None and input is None and target is None:
        raise files.FileError("EXPECTED: missing; give it, or --input and --target")
    if expected is not None and (input is not None or target is not None):
        raise files.FileError("EXPECTED: not used with --input and --target; leave one of them out")
    if expected is None and (input is None or target is None):
        missing = "--input" if input is None else "--target"
        raise files.FileError(f"{missing}: missing; give both --input and --target")
    if operator is Operator.loss and grad_output != "1":
        raise files.FileError("--grad-output: not used by --operator loss; leave it out")
    _check_standard((actual, expected, input, target, grad_output), None, False)
    given = _read_by_parts(actual)
    with output.progress(as_json) as progress:
        if expected is not None:
            report = chunked.check(given, _read_by_parts(expected), tolerance, worst, progress)
        else:
            report = chunked.check_operator(
                operator.value,
                given,
                _number_or_array(grad_output, _read_by_parts),
                _read_by_parts(input),
                _read_by_parts(target),
                (grad_output, input, target),
                reduction.value,
                tolerance,
                worst,
                progress,
            )
    if plot is not None:
        output.plot(report, plot)
    output.facts(report.to_dict(), report.summary(), as_json)
    raise typer.Exit(0 if report.ok else NOT_EQUAL)


@app.command()
def info(as_json: Json = False):
    """Show versions, instruction-set targets, threads and the memory limit."""
    facts = machine.facts()
    if as_json:
        output.facts(facts, "", True)
        return
    table = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        table.add_row(key, machine.shown(value))
    output.table(table)


@app.command()
def bench(
    size: Annotated[
        int,
        typer.Option(
            "--size",
            "-n",
            parser=options.size,
            metavar="SIZE",
            help="number of elements; 1M is 1,000,000, 1Mi is 1,048,576",
        ),
    ] = "16Mi",
    dtype: Annotated[DType, typer.Option("--dtype", help="dtype of the arrays")] = DType.float32,
    repeat: Annotated[int, typer.Option("--repeat", min=3, help="number of timed rounds")] = 15,
    torch: Annotated[bool, typer.Option("--torch", help="time PyTorch too")] = False,
    as_json: Json = False,
):
    """Check gradient and loss, then time them and the equivalent NumPy expressions in the same run.

    GB/s counts the bytes that must be moved: each input read once and each result written once.
    """
    result = benchmark.run(size, dtype.value, repeat, torch)
    if as_json:
        output.facts(result, "", True)
        return
    table = Table(title=benchmark.title(result), title_justify="left", box=None)
    for column in ("case", "median ms", "quartiles ms", "GB/s", "against"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for case in result["cases"]:
        table.add_row(*benchmark.row(case))
    output.table(table)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="print the version and exit")
    ] = False,
):
    pass


def run(arguments=None):
    """Runs the command line and returns the exit status; errors are one line on standard error."""
    return guarded(lambda: invoke(arguments))


def invoke(arguments=None):
    """Runs the command line and returns the exit status; raises what the command raises."""
    files.faults.start()
    if (sys.argv[1:] if arguments is None else arguments) in (["--version"], ["-V"]):
        output.text(mseloss.__version__)
        return 0
    command = typer.main.get_command(app)
    status = command.main(args=arguments, prog_name="mseloss", standalone_mode=False) or 0
    if status == 130:  # typer turns an interrupt into this status, without a message
        raise KeyboardInterrupt
    return status


def _check_standard(operands, out, as_json):
    """Raises FileError if standard input or output stand for more than one thing."""
    if operands.count(files.STANDARD) > 1:
        raise files.FileError("-: standard input has one array; give the others as files")
    if out == files.STANDARD and as_json:
        raise files.FileError("--json: standard output has the array; give --out a file")


def _read_by_parts(name):
    """An array from a file, or a Dask array on a Zarr store."""
    array = files.read(name)
    if not _is_zarr(array):
        return array
    from mseloss.cli import lazy

    return lazy.array(array)


def _number_or_array(text, read=files.read):
    try:
        return float(text)
    except ValueError:
        if not text:
            text = "--grad-output: expected a number or a file, got ''; leave it out for 1"
            raise files.FileError(text) from None
        return read(text)


def _through_dask(out, *operands):
    """Whether a call reads or writes Zarr arrays."""
    return any(map(_is_zarr, operands)) or (out is not None and files.is_zarr(out))


def _is_zarr(operand):
    return hasattr(operand, "chunks")
