"""Objects that export memory through each protocol, with any value in any field.

A library that exports memory may leave optional fields empty, and a faulty one may fill them with anything.
"""

import ctypes
from ctypes import pythonapi

import numpy as np

FLOAT, BFLOAT, INT, COMPLEX = 2, 4, 0, 5  # DLPack's type codes
READ_ONLY, IS_COPIED = 1, 2  # DLPack's flags


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Managed(ctypes.Structure):
    _fields_ = [
        ("tensor", DLTensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),  # null: nothing to free
    ]


class ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


class Buffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    ]


def c_function(name, result, *arguments):
    """A function of Python's C API; pythonapi's own attributes are shared with other users of ctypes."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, pythonapi))


new_capsule = c_function(
    "PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)
increment = c_function("Py_IncRef", None, ctypes.py_object)


def integers(values, kind=ctypes.c_int64):
    """A C array of the values; null for None."""
    return None if values is None else (kind * max(len(values), 1))(*values)


def fields_of(array):
    """What DLPack says about a NumPy array: the arguments of DLPack()."""
    size = array.itemsize
    return {
        "data": array.ctypes.data,
        "ndim": array.ndim,
        "code": BFLOAT if array.dtype.name == "bfloat16" else FLOAT,
        "bits": 8 * size,
        "shape": array.shape,
        "strides": tuple(stride // size for stride in array.strides),
    }


class DLPack:
    """Exports a capsule with the given fields; `array` owns the memory."""

    def __init__(
        self,
        array,
        *,
        versioned=True,
        name=None,
        device_type=1,
        lanes=1,
        byte_offset=0,
        major=1,
        flags=0,
        **fields,
    ):
        fields = {**fields_of(array), **fields}
        # Referred to by the capsule.
        self._keep = array, integers(fields.pop("shape")), integers(fields.pop("strides"))
        tensor = DLTensor(
            device_type=device_type,
            lanes=lanes,
            byte_offset=byte_offset,
            shape=self._keep[1],
            strides=self._keep[2],
            **fields,
        )
        if versioned:
            self._managed = ManagedVersioned(major=major, flags=flags, tensor=tensor)
        else:
            self._managed = Managed(tensor=tensor)
        self._name = name or (b"dltensor_versioned" if versioned else b"dltensor")
        self._device = device_type, 0

    def __dlpack__(self, **options):
        return new_capsule(ctypes.addressof(self._managed), self._name, None)

    def __dlpack_device__(self):
        return self._device


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Buffer), ctypes.c_int)
def _get_buffer(exporter, view, flags):
    ctypes.memmove(view, ctypes.addressof(exporter.view), ctypes.sizeof(Buffer))
    view.contents.obj = id(exporter)
    increment(exporter)
    exporter.requests.append(flags)
    return 0


def _buffer_type():
    """A type whose instances export `self.view`, a Buffer."""

    class Slot(ctypes.Structure):
        _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]

    class Spec(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_char_p),
            ("basicsize", ctypes.c_int),
            ("itemsize", ctypes.c_int),
            ("flags", ctypes.c_uint),
            ("slots", ctypes.POINTER(Slot)),
        ]

    get_buffer_slot, default_and_base_type = 1, 1 << 18 | 1 << 10
    slots = (Slot * 2)(Slot(get_buffer_slot, ctypes.cast(_get_buffer, ctypes.c_void_p)), Slot())
    spec = Spec(b"producers.Exporter", object.__basicsize__, 0, default_and_base_type, slots)
    from_spec = c_function("PyType_FromSpec", ctypes.py_object, ctypes.POINTER(Spec))
    return from_spec(spec), spec, slots


_EXPORTER, *_KEEP = _buffer_type()


class BufferExporter(_EXPORTER):
    """Exports a buffer with the given fields; `array` owns the memory."""

    def __init__(self, array, *, shape=..., strides=..., suboffsets=None, **fields):
        size = ctypes.c_ssize_t
        self.requests = []
        self._keep = (
            array,
            integers(array.shape if shape is ... else shape, size),
            integers(array.strides if strides is ... else strides, size),
            integers(suboffsets, size),
        )
        defaults = {
            "buf": array.ctypes.data,
            "len": array.nbytes,
            "itemsize": array.itemsize,
            "readonly": not array.flags.writeable,
            "ndim": array.ndim,
            "format": {2: b"e", 4: b"f", 8: b"d"}[array.itemsize],
        }
        self.view = Buffer(
            shape=self._keep[1],
            strides=self._keep[2],
            suboffsets=self._keep[3],
            **{**defaults, **fields},
        )


class Interface:
    """Has an __array_interface__ with the given entries; `...` leaves one out. `array` owns the memory."""

    def __init__(self, array, **entries):
        self._array = array
        entries = {**array.__array_interface__, **entries}
        self.__array_interface__ = {
            key: value for key, value in entries.items() if value is not ...
        }


class WithArray:
    """Only has __array__, as objects of pandas, xarray and dask do."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype=dtype, copy=copy)
