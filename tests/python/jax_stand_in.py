"""A pytest plugin: XLA's arrays in host memory stand for arrays of a CUDA device.

XLA's CPU client calls the CUDA handlers of mseloss.jax, through a function that replaces in XLA's interface
what its CPU client lacks, the stream and device memory. With MSELOSS_DEVICE=cuda-model the handlers run the
kernels on the model.
"""

import ctypes

import jax

STREAM = 0x5EA
CALLS = []  # the handlers that ran
STREAMS = []  # how often XLA was asked for the stream
LIVE = {}  # device memory that was not freed

# Positions in XLA_FFI_Api and in XLA_FFI_CallFrame, in words of 8 bytes.
GET_STREAM, ALLOCATE, FREE, API_WORDS = 10, 15, 16, 24
FRAME_EXTENSIONS, FRAME_API, FRAME_STAGE, EXECUTE = 1, 2, 4, 3

Function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


def words_at(address, count):
    return (ctypes.c_uint64 * count).from_address(address)


@Function
def get_stream(arguments):  # size, extensions, context, out: stream
    STREAMS.append(STREAM)
    words_at(arguments, 4)[3] = STREAM
    return None


@Function
def allocate(arguments):  # size, extensions, context, bytes, alignment, out: data
    words = words_at(arguments, 6)
    memory = ctypes.create_string_buffer(b"\xff" * (words[3] + 64))
    address = (ctypes.addressof(memory) + 63) // 64 * 64
    LIVE[address] = memory
    words[5] = address
    return None


FREED = []  # stays allocated, as memory that enqueued work still uses


@Function
def free(arguments):  # size, extensions, context, bytes, data
    FREED.append(LIVE.pop(words_at(arguments, 5)[4]))
    return None


def through(name, handler):
    """A handler that calls `handler` with the interface of a device."""
    target = Function(handler)

    @Function
    def call(frame):
        words = words_at(frame, 5)
        is_query = words[FRAME_EXTENSIONS] != 0  # of the metadata
        if is_query or words[FRAME_STAGE] & 0xFFFFFFFF != EXECUTE:
            return target(frame)
        real = words[FRAME_API]
        table = (ctypes.c_uint64 * API_WORDS)(*words_at(real, API_WORDS))
        for index, function in ((GET_STREAM, get_stream), (ALLOCATE, allocate), (FREE, free)):
            table[index] = ctypes.cast(function, ctypes.c_void_p).value
        words[FRAME_API] = ctypes.addressof(table)
        CALLS.append(name)
        try:
            return target(frame)
        finally:
            words[FRAME_API] = real

    return call


KEPT = []  # XLA calls them until the process ends


def pytest_configure(config):
    """Registers the handlers for CUDA in the place of those for the CPU."""
    from mseloss import _core

    library = ctypes.CDLL(_core.__file__)
    register = jax.ffi.register_ffi_target

    def replacement(target, handler, platform="cpu", **keywords):
        if not target.startswith("mseloss_") or platform != "cpu":
            return register(target, handler, platform=platform, **keywords)
        name = target.removeprefix("mseloss_")
        symbol = getattr(library, f"mseloss_jax_cuda_{name}")
        call = through(name, ctypes.cast(symbol, ctypes.c_void_p).value)
        KEPT.append(call)
        return register(target, jax.ffi.pycapsule(call), platform="cpu", **keywords)

    jax.ffi.register_ffi_target = replacement
    import mseloss.jax  # noqa: F401

    jax.ffi.register_ffi_target = register
