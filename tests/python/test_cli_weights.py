"""Weights, masks and axes in the shell command."""

import numpy as np
import pytest
from conftest import normal, same_bits
from mseloss import reference
from mseloss.cli import files

pytest.importorskip("typer")

WEIGHTS = {
    "full": normal(3, (30, 40)) ** 2,
    "rows": normal(3, (30, 1)) ** 2,
    "mask": normal(3, (30, 40)) > 0,
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_weights(command, kind, reduction):
    x, y, w = normal(1, (30, 40)), normal(2, (30, 40)), WEIGHTS[kind]
    if kind == "mask":
        x[~w] = np.nan
    np.savez("in.npz", x=x, y=y, w=w)
    arguments = ["in.npz:x", "in.npz:y", "--weight", "in.npz:w", "-r", reduction]
    status, shown, err = command("loss", *arguments, "-o", "loss.npy")
    assert (status, err) == (0, "")
    expected = reference.loss(x, y, reduction, weight=w)
    assert same_bits(files.read("loss.npy"), np.asarray(expected))
    assert (str(expected) in shown) == (reduction != "none")
    assert command("grad", *arguments, "-o", "g.npy", "-g", "0.5")[0] == 0
    wanted = reference.loss_and_grad(x, y, reduction, weight=w, grad_output=0.5)[1]
    assert same_bits(files.read("g.npy"), wanted)


@pytest.mark.parametrize("axis", [(0,), (-1,), (1, 0)], ids=str)
def test_axes(command, axis):
    x, y, w = normal(1, (30, 40)), normal(2, (40,)).astype(">f4"), WEIGHTS["rows"]
    for name, array in (("x.npy", x), ("y.npy", y), ("w.npy", w)):
        np.save(name, array)
    options = [option for a in axis for option in ("--axis", str(a))]
    assert command("loss", "x.npy", "y.npy", *options, "-o", "l.npy")[0] == 0
    native = y.astype(np.float32)
    assert same_bits(files.read("l.npy"), np.asarray(reference.loss(x, native, axis=axis)))
    options += ["-w", "w.npy", "-o", "l.safetensors"]
    assert command("loss", "x.npy", "y.npy", *options)[0] == 0
    expected = reference.loss(x, native, weight=w, axis=axis)
    assert same_bits(files.read("l.safetensors"), np.asarray(expected))


SHAPES = "expected shapes that broadcast together, got (3, 4), "
DEEP = "expected at most 8 dimensions, got 9"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.npy", "x.npy", "--axis", "0"], "--out: missing, --axis has a result"),
        (["x.npy", "x.npy", "--axis", "2", "-o", "o.npy"], "axis: "),
        (["x.npy", "m.npy"], "got bool, which only a weight may be"),
        (["x.npy", "x.npy", "-w", "w.npy"], f"x.npy, x.npy, w.npy: {SHAPES}"),
        (["x.npy", "x.npy", "-w", "w.npy", "--axis", "0", "-o", "o.npy"], f"w.npy: {SHAPES}"),
        (["x.npy", "w.npy", "--axis", "0", "-o", "o.npy"], f"x.npy, w.npy: {SHAPES}"),
        (["x.npy", "d.npy", "--axis", "0", "-o", "o.npy"], f"d.npy: {DEEP}"),
        (["x.npy", "x.npy", "-w", "d.npy"], f"d.npy: {DEEP}"),
        (["x.npy", "x.npy", "-w", "none.npy"], "none.npy: no such file"),
    ],
)
def test_bad_weights_and_axes(command, arguments, words):
    np.save("x.npy", normal(1, (3, 4)))
    np.save("m.npy", np.ones((3, 4), bool))
    np.save("w.npy", np.ones((5, 4), np.float32))
    np.save("d.npy", np.ones((1,) * 9, np.float32))
    status, _, err = command("loss", *arguments)
    assert status == 2
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-w", "w.npy"], f"x.npy, x.npy, w.npy: {SHAPES}"),
        (["-w", "x.npy", "-g", "w.npy", "-r", "none"], "w.npy, x.npy, x.npy, x.npy: expected"),
        (["-w", "d.npy", "--dtype", "float64"], f"d.npy: {DEEP}"),
    ],
)
def test_operands_that_do_not_fit_a_weighted_gradient(command, arguments, words):
    np.save("x.npy", normal(1, (3, 4)))
    np.save("w.npy", np.ones((5, 4), np.float32))
    np.save("d.npy", np.ones((1,) * 9, np.float32))
    status, _, err = command("grad", "x.npy", "x.npy", "-o", "o.npy", *arguments)
    assert status == 2
    assert words in err
    assert len(err.splitlines()) == 1
