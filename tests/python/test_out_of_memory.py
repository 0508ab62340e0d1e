"""Each allocation and thread start of a call fails in turn: MemoryError or the right result.

A preloaded library replaces malloc and its relatives. It fails only the calls that come from the
extension module, TBB and the C++ runtime, because Python itself does not survive every failure.
"""

import os
import shutil
import subprocess
import sys
import textwrap

import mseloss
import pytest

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static _Atomic int64_t countdown = INT64_MAX, failed = 0;
static _Atomic int onwards = 0;
static __thread int asking = 0;

void inject(int64_t k, int and_all_later) { onwards = and_all_later, failed = 0, countdown = k; }
int64_t injected(void) { return countdown = INT64_MAX, failed; }

static int fails(void* caller) {
  Dl_info info;
  if (countdown == INT64_MAX || asking) return 0;
  asking = 1;
  const int ours = dladdr(caller, &info) != 0 && info.dli_fname != NULL &&
                   (strstr(info.dli_fname, "/_core") || strstr(info.dli_fname, "libtbb") ||
                    strstr(info.dli_fname, "libstdc++"));
  asking = 0;
  if (!ours) return 0;
  const int64_t mine = countdown--;
  const int hit = mine == 0 || (mine < 0 && onwards);
  failed += hit;
  if (hit) errno = ENOMEM;
  return hit;
}
#define FAILS fails(__builtin_return_address(0))

void* malloc(size_t n) { return FAILS ? NULL : __libc_malloc(n); }
void* calloc(size_t n, size_t m) { return FAILS ? NULL : __libc_calloc(n, m); }
void* realloc(void* p, size_t n) { return FAILS ? NULL : __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) { return FAILS ? NULL : __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) { return FAILS ? NULL : __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) {
  if (FAILS) return ENOMEM;
  return (*p = __libc_memalign(a, n)) == NULL ? ENOMEM : 0;
}
void* mmap(void* a, size_t n, int prot, int flags, int fd, off_t o) {
  if (FAILS) return MAP_FAILED;
  return (void*)syscall(SYS_mmap, a, n, prot, flags, fd, o);
}
int pthread_create(pthread_t* t, const pthread_attr_t* a, void* (*f)(void*), void* x) {
  static int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (FAILS) return EAGAIN;
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "pthread_create");
  return real(t, a, f, x);
}
"""

# Prints "done" if event k did not happen, "failed" if it did; exits with an error for anything wrong.
CASE = """
    import ctypes, signal, sys, threading
    import numpy as np
    import mseloss

    shim = ctypes.CDLL(None)
    shim.inject.argtypes = [ctypes.c_int64, ctypes.c_int]
    shim.injected.restype = ctypes.c_int64
    k, onwards, who, operation = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    signal.alarm(30)
    x, y = np.full((700, 600), 3, np.float32), np.full((700, 600), 1, np.float32)
    transposed = np.asfortranarray(y)

    def call():
        if operation == "grad":
            return mseloss.grad(1.0, x, transposed, "sum")[-1, -1] == 4
        if operation == "loss":
            return mseloss.loss(x, y, "mean") == 4
        loss, grad = mseloss.loss_and_grad(x, y, "sum")
        return loss == 4 * x.size and grad[0, 0] == 4

    def check():
        shim.inject(k, onwards)
        try:
            right = call()
        except MemoryError:
            right = None
        happened = shim.injected()
        assert right is not False and (right or happened), (right, happened)
        for _ in range(3):
            assert call()
        outcome.append("failed" if happened else "done")

    outcome = []
    if who == "thread":
        assert call()
        thread = threading.Thread(target=check)
        thread.start()
        thread.join()
    else:
        check()
    print(outcome[0])
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    command = [
        compiler,
        "-O1",
        "-shared",
        "-fPIC",
        "-fno-builtin",
        "-o",
        library,
        folder / "shim.c",
        "-ldl",
        "-lpthread",
    ]
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize("operation", ["grad", "loss", "loss_and_grad"])
@pytest.mark.parametrize("who", ["first", "thread"])
@pytest.mark.parametrize("onwards", [0, 1], ids=["once", "onwards"])
def test_every_failed_allocation_is_an_exception_or_harmless(shim, operation, who, onwards):
    assert mseloss.__file__  # the child imports the same package
    environment = {**os.environ, "LD_PRELOAD": str(shim), "MSELOSS_NUM_THREADS": "4"}
    for k in range(500):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CASE), str(k), str(onwards), who, operation],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
        assert done.returncode == 0, f"event {k}: {done.returncode} {done.stderr}"
        if done.stdout == "done\n":
            break
        assert done.stdout == "failed\n"
    else:
        pytest.fail("more than 500 events")
    assert k > 0
