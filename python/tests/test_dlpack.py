"""Goal: tensors of other libraries as destinations and tokens, by DLPack alone.

Method: objects that show nothing but `__dlpack__` and `__dlpack_device__`, over NumPy
arrays (version 0 of the protocol) or over structs made by hand (version 1).
"""

import ctypes
import gc

import numpy as np
import pytest
from conftest import COLUMNS, ROW_BYTES

import tiercel


class Tensor:
    """A NumPy array that only speaks DLPack, version 0."""

    def __init__(self, memory, device=(1, 0)):
        self.memory = memory
        self.device = device

    def __dlpack__(self, stream=None):
        assert stream is None
        assert self.device[0] in (1, 3), "a tensor on a GPU was exported"
        return self.memory.__dlpack__()

    def __dlpack_device__(self):
        return self.device


class DlTensor(ctypes.Structure):
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


class ManagedVersioned(ctypes.Structure):
    pass


DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(ManagedVersioned))
ManagedVersioned._fields_ = [
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("context", ctypes.c_void_p),
    ("deleter", DELETER),
    ("flags", ctypes.c_uint64),
    ("tensor", DlTensor),
]

new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class VersionedTensor:
    """Bytes as bf16 items in version 1 of the protocol, counting what is given back."""

    NAME = b"dltensor_versioned"

    def __init__(self, memory, flags=0, major=1, bits=16):
        self.memory = memory
        self.deleted = 0
        self.deleter = DELETER(self.delete)
        self.shape = (ctypes.c_int64 * 1)((memory.nbytes - 2) * 8 // max(bits, 1))
        self.managed = ManagedVersioned(
            major=major, minor=0, context=None, deleter=self.deleter, flags=flags
        )
        tensor = self.managed.tensor
        tensor.data = memory.ctypes.data
        tensor.byte_offset = 2
        tensor.device_type = 1
        tensor.ndim = 1
        tensor.code, tensor.bits, tensor.lanes = 4, bits, 1
        tensor.shape = self.shape

    def delete(self, managed):
        self.deleted += 1

    def __dlpack__(self, *, stream=None, max_version=None):
        assert max_version == (1, 0)
        return new_capsule(ctypes.addressof(self.managed), self.NAME, None)

    def __dlpack_device__(self):
        return (1, 0)


def zeros(*more):
    return np.zeros((2, COLUMNS, ROW_BYTES, *more), np.uint8)


@pytest.mark.parametrize("device", [(1, 0), (3, 0)])
def test_a_tensor_is_written(store, expected, device):
    memory = zeros()
    out = Tensor(memory, device)
    assert store.lookup([3, 4], 1, out=out) is out
    np.testing.assert_array_equal(memory, expected([3, 4], 1))


def test_a_tensor_of_tokens(store, expected):
    for dtype in (np.int32, np.int64):
        tokens = Tensor(np.array([3, 4], dtype))
        np.testing.assert_array_equal(store.lookup(tokens, 1), expected([3, 4], 1))


def test_version_1(store, expected):
    memory = np.zeros(2 + 2 * COLUMNS * ROW_BYTES, np.uint8)
    out = VersionedTensor(memory)
    store.lookup([3, 4], 1, out=out)
    assert memory[2:].tobytes() == expected([3, 4], 1).tobytes()
    assert not memory[:2].any()
    gc.collect()
    assert out.deleted == 1


@pytest.mark.parametrize(
    "change, words",
    [
        ({"flags": 1}, "read-only"),
        ({"major": 2}, "version 2"),
        ({"bits": 4}, "items of 4 bits"),
    ],
)
def test_version_1_that_cannot_be_written(store, change, words):
    out = VersionedTensor(np.zeros(2 + 2 * COLUMNS * ROW_BYTES, np.uint8), **change)
    with pytest.raises(tiercel.InvalidArgumentError, match=words):
        store.lookup([3, 4], 1, out=out)
    gc.collect()
    assert out.deleted == 1


def test_memory_of_a_gpu_is_refused(store):
    with pytest.raises(tiercel.InvalidArgumentError, match="out lies on a CUDA device.*id 3"):
        store.lookup([3, 4], 1, out=Tensor(zeros(), (2, 3)))


def test_torch(store, expected):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    out = torch.zeros((2, COLUMNS, 256), dtype=torch.bfloat16)
    store.lookup(torch.tensor([3, 4]), 1, out=out, format="bf16")
    np.testing.assert_array_equal(
        out.view(torch.int16).numpy().view(np.uint16), expected([3, 4], 1, "bf16")
    )
