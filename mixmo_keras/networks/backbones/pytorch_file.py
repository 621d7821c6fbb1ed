"""Reads the tensors of a PyTorch file of the form before version 1.6, without PyTorch and without running code in it.

Such a file is five pickles (a magic number, the protocol, sizes of types, the tensors, the keys of their storages), and then
each storage: its number of values, and the values. A storage is named in the pickle of the tensors and comes after it.
"""

import collections
import os
import pickle
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _View(NamedTuple):
    """A tensor as a part of a storage: offset, shape and strides, in values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a `state_dict` by name.

    Raises:
        ValueError: the file is damaged, of another form, or holds something else than tensors.
    """
    try:
        with open(path, "rb") as file:
            if _unpickled(file) != _MAGIC or _unpickled(file) != _PROTOCOL:
                raise ValueError("it doesn't begin as a PyTorch file of the form before version 1.6")
            if not _unpickled(file)["little_endian"]:
                raise ValueError("its numbers are big-endian")
            views, keys = _unpickled(file), _unpickled(file)
            storages = {view.storage.key: view.storage for view in views.values()}
            values = {key: _values(file, storages[key]) for key in keys}
            return {name: _tensor(view, values[view.storage.key]) for name, view in views.items()}
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is no PyTorch file of tensors, or a damaged one ({reason}).") from error


class _Unpickler(pickle.Unpickler):
    """Admits dictionaries and tensors, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, _ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it names a {kind!r} where a storage belongs")
        return _Storage(key, dtype, size)


def _view(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_) -> _View:
    return _View(storage, offset, shape, strides)


def _unpickled(file: BinaryIO) -> Any:
    return _Unpickler(file).load()


def _values(file: BinaryIO, storage: _Storage) -> np.ndarray:
    """The next storage of the file."""
    size = int(np.frombuffer(file.read(8), "<i8")[0])
    if size != storage.size:
        raise ValueError(f"a storage has {size} values where {storage.size} belong")
    data = file.read(size * storage.dtype.itemsize)
    return np.frombuffer(data, storage.dtype, count=size)  # raises where the file ends before


def _tensor(view: _View, values: np.ndarray) -> np.ndarray:
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if view.offset < 0 or min(view.strides, default=0) < 0 or min(view.shape, default=1) < 1 or last >= len(values):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [stride * values.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides).copy()
