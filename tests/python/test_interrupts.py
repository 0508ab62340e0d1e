"""Signals during long calls: handlers run, and Ctrl-C ends the call."""

import os
import signal
import threading
import time

import mseloss
import numpy as np
import pytest

# Values with strides of 0: hours of work without memory.
LONG = np.broadcast_to(np.float32([1, 2, 3, 4]), (1 << 40, 4))
SHORT = np.float32(5)


@pytest.fixture(autouse=True)
def interrupts_raise():
    """Shells start background jobs with SIGINT ignored, and pytest-xdist ignores it in its workers."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def later(seconds, number=signal.SIGINT):
    """Sends this process a signal; returns a list to which the time of sending is added."""
    sent = []

    def send():
        time.sleep(seconds)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    return sent


CALLS = {
    "loss": lambda: mseloss.loss(LONG, SHORT),
    "weighted loss": lambda: mseloss.loss(LONG, SHORT, weight=LONG),
    "axis": lambda: mseloss.loss(LONG, SHORT, axis=0),
    "PartialSum": lambda: mseloss.PartialSum().add(LONG, SHORT),
    "exact PartialSum": lambda: mseloss.PartialSum().add(LONG, SHORT, exact=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends_a_call(name):
    sent = later(0.2)
    with pytest.raises(KeyboardInterrupt):
        CALLS[name]()
    assert time.perf_counter() - sent[0] < 1  # at most 65 ms on an idle machine
    assert mseloss.loss(np.float32([1, 3]), np.float32([1, 1])) == 2


def test_a_partial_sum_keeps_what_it_had():
    total = mseloss.PartialSum()
    total.add(np.float32([1, 3]), np.float32([1, 1]))
    later(0.2)
    with pytest.raises(KeyboardInterrupt):
        total.add(LONG, SHORT)
    assert total.count == 2
    assert total.finish("sum", "float32") == 4


def test_handlers_run_and_the_call_continues(monkeypatch):
    """A handler that returns changes nothing; one that raises ends the call with its exception."""
    calls = []

    def handle(number, frame):
        calls.append(number)
        if len(calls) == 2:
            raise LookupError("from the handler")

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        later(0.2, signal.SIGUSR1)
        later(0.5, signal.SIGUSR1)
        with pytest.raises(LookupError, match="from the handler"):
            mseloss.loss(LONG, SHORT)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == [signal.SIGUSR1] * 2


def test_other_threads_finish_their_calls():
    """Handlers run on the main thread; a call of another thread is not interrupted."""
    x = np.broadcast_to(np.float32([1, 2, 3, 4]), (1 << 28, 4))
    results = []
    thread = threading.Thread(target=lambda: results.append(mseloss.loss(x, SHORT)))
    thread.start()
    later(0.05)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(60)
    thread.join()
    assert results == [np.float32(7.5)]


def test_ctrl_c_ends_a_step_of_pytorch(torch_step):
    """In C++ and in Python. Only the loss: a gradient of such a size has no memory."""
    torch = pytest.importorskip("torch")
    x, y = (torch.tensor([a, 2.0, 3.0, 4.0]).expand(1 << 40, 4) for a in (1.0, 5.0))
    sent = later(0.2)
    with pytest.raises(KeyboardInterrupt):
        mseloss.torch.mse_loss(x, y)
    assert time.perf_counter() - sent[0] < 1
    assert mseloss.torch.mse_loss(x[:3], y[:3]) == 4


@pytest.mark.parametrize("samples", [0, 4])
def test_ctrl_c_ends_a_call_under_transforms_of_pytorch(samples):
    """A call below a level of grad, and below one of vmap."""
    torch = pytest.importorskip("torch")
    x, y = (torch.tensor([a, 2.0, 3.0, 4.0]).expand(1 << 40, 4) for a in (1.0, 5.0))

    def call(a, b):
        if samples:
            return torch.func.vmap(mseloss.torch.mse_loss, in_dims=1)(a, b)
        return torch.func.grad(lambda s: s * mseloss.torch.mse_loss(a, b))(torch.ones(()))

    sent = later(0.2)
    with pytest.raises(KeyboardInterrupt):
        call(x, y)
    assert time.perf_counter() - sent[0] < 1
    assert call(x[:3], y[:3]).mean() == 4


def test_a_handler_ends_a_backward_pass_of_pytorch(torch_step):
    """A retained graph makes each backward pass compute its gradient anew: 256 MiB in one call."""
    torch = pytest.importorskip("torch")
    x = torch.ones(1, dtype=torch.bfloat16).expand(1 << 27).detach().requires_grad_()
    y = torch.zeros(1, dtype=torch.float64).expand(1 << 27)  # two dtypes take longer
    loss = mseloss.torch.mse_loss(x, y)

    def handle(number, frame):
        raise LookupError("from the handler")

    def ends_early():
        """Whether the exception came before the gradient did."""
        x.grad = None
        # Hooks run just before the pass.
        hook = loss.register_hook(lambda _: signal.setitimer(signal.ITIMER_REAL, 0.002) and None)
        try:
            loss.backward(retain_graph=True)
        except LookupError:
            return x.grad is None
        finally:
            hook.remove()
            signal.setitimer(signal.ITIMER_REAL, 0)
        return False

    before = signal.signal(signal.SIGALRM, handle)
    try:
        assert any(ends_early() for _ in range(20))
    finally:
        signal.signal(signal.SIGALRM, before)
    loss.backward()
    assert x.grad is not None
