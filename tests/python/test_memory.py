"""The memory pool of results: never reuses live memory, keeps at most its limit, and works after fork."""

import contextlib
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading

import mseloss
import numpy as np
import pytest
from conftest import normal
from mseloss import memory

MIB = 1 << 20


@pytest.fixture(autouse=True)
def clean_pool():
    gc.collect()
    memory.trim()
    before = memory.limit()
    yield
    memory.set_limit(before)


def run(code, **environment):
    """Runs `code` in a new process and returns its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_small_results_do_not_use_the_pool():
    before = memory.usage()
    result = mseloss.grad(1.0, normal(1, 1000), normal(2, 1000))
    assert memory.usage() == before
    assert result.flags.owndata


def test_memory_is_recycled_after_the_last_reference_died():
    x, y = normal(1, MIB), normal(2, MIB)
    result = mseloss.grad(1.0, x, y)
    address, view = result.ctypes.data, result[10:]
    assert memory.usage()["live_blocks"] == 1
    del result
    assert memory.usage()["idle"] == 0  # the view keeps it alive
    kept = view.copy()
    other = mseloss.grad(1.0, y, x)
    assert other.ctypes.data != address
    assert (view == kept).all()
    del view
    assert memory.usage()["idle_blocks"] == 1
    assert mseloss.grad(1.0, x, y).ctypes.data == address


def test_live_results_never_share_memory():
    x = normal(1, 2 * MIB // 4)
    results = []
    for i in range(40):
        results.append(mseloss.grad(float(i), x, -x))
        if i % 3 == 0:
            del results[i // 2 % len(results)]
    spans = sorted((r.ctypes.data, r.ctypes.data + r.nbytes) for r in results)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(s % 4096 == 0 for s, _ in spans)


def test_the_limit_bounds_what_is_idle():
    x = normal(1, MIB)  # results of 4 MiB
    memory.set_limit(8 * MIB)
    assert memory.limit() == 8 * MIB
    results = [mseloss.grad(1.0, x, x) for _ in range(5)]
    assert memory.usage()["live"] == 20 * MIB
    del results
    assert memory.usage()["live"] == 0
    assert memory.usage()["idle"] == 8 * MIB
    memory.set_limit(4 * MIB)
    assert memory.usage()["idle"] == 4 * MIB
    assert memory.trim() == 4 * MIB
    assert memory.trim() == 0
    memory.set_limit(0)
    del_me = mseloss.grad(1.0, x, x)
    del del_me
    assert memory.usage()["idle"] == 0


@pytest.mark.parametrize("limit", [-1, 1.5, "all", 2**70, None])
def test_refuses_limits(limit):
    kind = ValueError if isinstance(limit, int) else TypeError
    with pytest.raises(kind, match=f"^bytes: expected a number of bytes from 0 on, got {limit!r}$"):
        memory.set_limit(limit)


def test_numpy_integers_are_limits():
    memory.set_limit(np.int64(12345))
    assert memory.limit() == 12345


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_goes_back_to_the_system():
    x = normal(1, 16 * MIB)
    result = mseloss.grad(1.0, x, x)
    high = resident()
    del result
    memory.trim()
    assert resident() < high - 60 * MIB


@pytest.mark.parametrize("size", [16, 1000, 300_000], ids=str)
def test_a_long_loop_stays_flat(size):
    x, y, g = normal(1, size), normal(2, size), np.float32(1)
    out = np.empty_like(x)

    def rounds(count):
        for _ in range(count):
            mseloss.grad(g, x, y)
            mseloss.grad(1.0, x, y, out=out)
            mseloss.loss(x, y)
            mseloss.loss(x, y, "none")
            mseloss.loss_and_grad(x, y, grad_output=g)
            with contextlib.suppress(ValueError):
                mseloss.grad(g, x, y[:-1])

    count = max(30, 300_000 // size)
    rounds(count)
    before = resident()
    rounds(4 * count)
    assert resident() - before < 2 * MIB


def test_reference_counts_do_not_change():
    x, y, out = normal(1, 100), normal(2, 100), np.empty(100, np.float32)
    buffer = memoryview(bytearray(400)).cast("f")
    objects = [x, y, out, x.dtype, np.float32, buffer]
    before = [sys.getrefcount(o) for o in objects]
    for _ in range(100):
        mseloss.grad(1.0, x, y, out=out)
        mseloss.grad(x, x, buffer)
        mseloss.loss_and_grad(x, y, out=out)
        for bad in (y[:3], None, y.astype(int), [1]):
            with pytest.raises((ValueError, TypeError)):
                mseloss.grad(1.0, x, bad, out=out)
    assert [sys.getrefcount(o) for o in objects] == before


def test_threads_at_once():
    x, y = normal(1, 300_000), normal(2, 300_000)
    expected = mseloss.grad(1.0, x, y)
    failures = []

    def work(seed):
        try:
            for i in range(30):
                size = 300_000 - (seed * 31 + i) % 7
                result = mseloss.grad(1.0, x[:size], y[:size], "sum")
                half = result * np.float32(1 / 300_000)
                assert np.allclose(half, expected[:size], rtol=1e-6)
                mseloss.loss_and_grad(x, y, out=result if size == 300_000 else None)
                memory.usage()
                if i % 10 == 0:
                    memory.trim()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert memory.usage()["live_blocks"] == 1


def test_other_threads_run_during_a_large_call():
    """The GIL is released: Python code makes progress while one call runs."""
    x = normal(1, 32 * MIB)
    out = np.empty_like(x)
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    before = sys.getswitchinterval()
    sys.setswitchinterval(
        0.3
    )  # longer than the call: the other thread runs only if the GIL is released
    thread.start()
    try:
        start = ticks[0]
        mseloss.grad(1.0, x, x, out=out)
        assert ticks[0] > start
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()


def test_fork_with_live_and_idle_memory():
    assert (
        run("""
        import os, warnings
        warnings.simplefilter("ignore")
        import numpy as np, mseloss
        from mseloss import memory
        x = np.arange(1 << 20, dtype=np.float32)
        live, idle = mseloss.grad(1.0, x, -x), mseloss.grad(2.0, x, -x)
        expected = live.copy()
        del idle
        children = []
        for i in range(3):
            pid = os.fork()
            if pid == 0:
                ok = (live == expected).all()
                again = mseloss.grad(1.0, x, -x)  # from memory that was idle in the parent
                ok = ok and (again == expected).all() and memory.usage()["reused"] >= 1
                live[:] = i  # the child's own copy
                del again
                memory.trim()
                os._exit(0 if ok else 3)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        assert codes == [0, 0, 0], codes
        assert (live == expected).all()
        print("fine")
    """)
        == "fine\n"
    )


def test_fork_while_threads_use_the_pool():
    assert (
        run("""
        import os, threading, warnings
        warnings.simplefilter("ignore")
        import numpy as np, mseloss
        from mseloss import memory
        x = np.ones(1 << 19, np.float32)
        stop = threading.Event()
        def churn():
            while not stop.is_set():
                mseloss.empty(1 << 20, "float32")
        threads = [threading.Thread(target=churn) for _ in range(3)]
        for t in threads: t.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                mseloss.empty(1 << 20, "float32")
                memory.trim()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        stop.set()
        for t in threads: t.join()
        print("fine")
    """)
        == "fine\n"
    )


def test_exit_with_live_results_and_no_leaks():
    """nanobind reports leaks on stderr, and run() requires an empty stderr."""
    assert (
        run("""
        import numpy as np, mseloss
        x = np.ones(1 << 20, np.float32)
        keep = mseloss.grad(1.0, x, x)
        class Holder: pass
        holder = Holder()
        holder.cycle, holder.array = holder, mseloss.grad(1.0, x, x)
        mseloss.keep = mseloss.loss_and_grad(x, x)
        total = mseloss.PartialSum(); total.add(x, x)
        print(mseloss.loss(x, x))
    """)
        == "0.0\n"
    )


def test_the_environment_sets_the_limit():
    code = "from mseloss import memory; print(memory.limit())"
    assert run(code, MSELOSS_MEMORY_LIMIT="12345") == "12345\n"


def test_import_is_quick_and_imports_no_framework():
    code = """
        import sys, time
        start = time.perf_counter()
        import mseloss
        elapsed = time.perf_counter() - start
        loaded = [n for n in ("numpy", "torch", "jax", "typer", "ml_dtypes") if n in sys.modules]
        print(loaded, elapsed)
        """
    outputs = [run(code) for _ in range(3)]
    assert all(o.startswith("[] ") for o in outputs), outputs
    assert min(float(o.split()[-1]) for o in outputs) < 0.06


def test_empty():
    array = mseloss.empty((3, 5), "float16")
    assert (array.shape, array.dtype) == ((3, 5), np.float16)
    assert mseloss.empty(7, np.float64).shape == (7,)
    assert mseloss.empty((), "bfloat16").dtype.name == "bfloat16"
    for shape in ([2, 3], np.array([2, 3]), (np.int8(2), 3)):
        assert mseloss.empty(shape, "float32").shape == (2, 3)
    assert mseloss.empty(np.int64(2), "float32").shape == (2,)
    for shape, exception, words in (
        ((-1,), ValueError, "extents of at least 0"),
        ((2**70,), ValueError, "extents of 64 bits"),
        (-(2**70), ValueError, "extents of 64 bits"),
        ((1,) * 9, ValueError, "at most 8 dimensions"),
        ((1.5,), TypeError, "an integer or a sequence of integers, got .1.5,.$"),
        ("a", TypeError, "an integer or a sequence of integers, got 'a'$"),
        (None, TypeError, "an integer or a sequence of integers, got None$"),
    ):
        with pytest.raises(exception, match=f"^shape: expected {words}"):
            mseloss.empty(shape, "float32")
    with pytest.raises(MemoryError):
        mseloss.empty((1 << 40, 1 << 10), "float32")
