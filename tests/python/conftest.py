"""Shared helpers of the Python tests. Every test compares with the reference or asserts a law."""

import socket

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    max_examples=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")

DTYPES = [np.dtype(t) for t in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64)]
REDUCTIONS = ["none", "mean", "sum"]


def same_bits(actual, expected):
    """Same dtype, shape and bits; all NaNs are equal."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return False
    integer = f"u{actual.dtype.itemsize}"
    wide = np.float32 if actual.dtype.itemsize == 2 else actual.dtype
    a, e = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    both_nan = np.isnan(a.astype(wide)) & np.isnan(e.astype(wide))
    return bool(((a.view(integer) == e.view(integer)) | both_nan).all())


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def normal(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture(params=DTYPES, ids=lambda d: d.name)
def dtype(request):
    return request.param


@pytest.fixture(params=REDUCTIONS)
def reduction(request):
    return request.param


@pytest.fixture(scope="module", params=["compiled", "python"])
def torch_step(request):
    """Runs a module's tests with the training step of mseloss.torch in C++ and with that in Python."""
    face = pytest.importorskip("mseloss.torch")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(face, "_compiled_loss", lambda *arguments: None)
        elif not face.STEP_IS_COMPILED:
            pytest.skip("the step in C++ was not built for this version of PyTorch")
        yield request.param


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory for the shell command, which processes arrays in many chunks."""
    chunked = pytest.importorskip("mseloss.cli.chunked")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunked, "_CHUNK", 1000)  # many chunks
    return tmp_path


@pytest.fixture
def command(here, capsys):
    """Calls the shell command and returns (exit status, standard output, standard error)."""
    app = pytest.importorskip("mseloss.cli.app")

    def call(*arguments):
        status = app.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
