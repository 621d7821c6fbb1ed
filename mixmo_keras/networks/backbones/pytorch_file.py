"""Reads the tensors of a PyTorch file of the form before version 1.6, without PyTorch and without running code in it.

Such a file is five pickles (a magic number, the protocol, sizes of types, the tensors, the keys of their storages), and then
each storage: its number of values, and the values. A storage is named in the pickle of the tensors and comes after it.
"""

import collections
import os
import pickle
from typing import Any

import numpy as np

_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_SIZE = 8  # bytes of a storage's number of values


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a `state_dict` by name. The file must be known to be sound, as by its hash.

    Raises:
        pickle.UnpicklingError: it names something else than tensors.
    """
    with open(path, "rb") as file:
        for _ in ("magic number", "protocol", "sizes of types"):
            _Unpickler(file).load()
        pickled = _Unpickler(file)
        tensors = pickled.load()
        for key in _Unpickler(file).load():
            storage = pickled.storages[key]
            file.seek(_SIZE, os.SEEK_CUR)
            storage[:] = np.frombuffer(file.read(storage.nbytes), storage.dtype)
    return tensors


class _Unpickler(pickle.Unpickler):
    """Admits dictionaries and tensors, and nothing that could run code. Storages are empty until they are read."""

    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a tensor")

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, dtype, key, _, size, _ = pid
        return self.storages.setdefault(key, np.empty(size, dtype))


def _tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_) -> np.ndarray:
    """A part of a storage: offset, shape and strides are in values."""
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, [stride * storage.itemsize for stride in strides])
