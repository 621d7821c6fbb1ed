"""A checkpoint as a file: a header in JSON and arrays, whole or not there."""

import dataclasses
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np

from mixmo_keras.common import files

DAMAGED = (  # what reading such a file raises
    *(OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, OverflowError),
    *(RuntimeError, NotImplementedError),  # of a flipped bit that says it is encrypted, or packed in another way
    *(TypeError, AttributeError),  # of a header that is JSON, and something else
)


@dataclasses.dataclass(frozen=True, order=True)
class Position:
    """Where a run stands: `epoch` epochs and `step` steps of the next one are done."""

    epoch: int = 0
    step: int = 0


def write(path: Path, header: dict, arrays: list[np.ndarray]) -> None:
    """Writes a header (JSON) and arrays as an npz file."""
    header = {**header, "dtypes": [array.dtype.name for array in arrays]}
    with files.replacing(path) as part, open(part, "wb") as file:
        named = {f"a{index}": array for index, array in enumerate(arrays)}
        np.savez(file, header=np.array(json.dumps(header)), **named)  # type: ignore[arg-type]


def read(path: str | os.PathLike) -> tuple[dict, list[np.ndarray]]:
    """The header and the arrays of `write`; every array's checksum is compared on the way.

    Raises:
        One of `DAMAGED`: the file is something else, or a part of one.
    """
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        header = json.loads(str(file["header"]))
        if not isinstance(header, dict) or not isinstance(header["dtypes"], list):
            raise ValueError("its header is no checkpoint's")
        arrays = [file[f"a{index}"] for index in range(len(header["dtypes"]))]
    try:
        # NumPy writes types that it doesn't know, such as bfloat16, as plain bytes
        return header, [array.view(np.dtype(name)) for array, name in zip(arrays, header["dtypes"], strict=True)]
    except TypeError as error:
        raise ValueError(f"its types are none: {error}") from error


def read_of_model(path: str | os.PathLike) -> tuple[dict, list[np.ndarray]]:
    """As `read`, of a model in training: the header has the `variables`' names and shapes, and the `seconds` it took.

    Raises:
        One of `DAMAGED`: as `read`; or there are fewer arrays than variables, or weights that are NaN or infinite.
    """
    header, arrays = read(path)
    if not isinstance(header["variables"], list) or not isinstance(header["seconds"], (int, float)):
        raise ValueError("its header is no checkpoint's")
    if len(arrays) < len(header["variables"]):
        raise ValueError(f"it has {len(arrays)} arrays of {len(header['variables'])} variables")
    for (name, _), array in zip(header["variables"], arrays, strict=False):
        if name.startswith("model/") and not np.isfinite(array.astype("float64")).all():
            raise ValueError(f"it holds NaN or infinite weights, {name}")
    return header, arrays


def values_of(variables) -> list[np.ndarray]:
    """Copies of variables' values."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
