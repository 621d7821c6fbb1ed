"""The folder of a version: which one comes next, that nobody else writes it, and that it can be written at all.

And the file of another format, which replaces no other either.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mixmo_keras.common import arguments, files

OF_SAVED_MODEL = {  # what TensorFlow, Keras and this package write into one
    *("saved_model.pb", "variables", "assets", "assets.extra", "fingerprint.pb", "keras_metadata.pb", "debug"),
    "model_card.md",
}

ENDINGS = {"onnx": ".onnx", "litert": ".tflite", "torch": ".pt2", "openvino": ".xml"}  # of the files of Keras' formats


@contextlib.contextmanager
def claimed(path: Path, overwrite: bool) -> Iterator[Path]:
    """The version to write, which no other export takes meanwhile: `path` itself if it ends in a number, else its next one.

    What a killed export of the same version left behind is removed, and a version that it had moved away put back.

    Raises:
        FileExistsError: the version exists and may not be replaced, or is being written.
        ValueError: what exists is no SavedModel.
    """
    check(path, overwrite)
    numbered = path.name.isdecimal()
    version = path if numbered else path / str(_next(path))
    while True:
        with files.locked(version) as is_ours:
            if is_ours:
                files.put_back(version)
            if is_ours and (numbered or not version.exists()):
                check(version, overwrite)  # another export may have ended just now
                yield version
                return
        if numbered:
            raise FileExistsError(f"{version} is being written by another export. Choose another version.")
        version = version.with_name(str(int(version.name) + 1))


@contextlib.contextmanager
def replacing_file(path: str | os.PathLike, format: str, overwrite: bool) -> Iterator[Path]:
    """Where to write a model in one of Keras' formats of one file, which takes the place of `path` when the block ends.

    Raises:
        FileExistsError: the file exists and may not be replaced.
        ValueError: what exists is no file of the format.
    """
    path = Path(arguments.instance("filepath", path, (str, os.PathLike), "the path of a file"))
    weights = [path.with_suffix(".bin")] if format == "openvino" and path.suffix else []  # which it writes beside
    for one in [path, *weights]:
        if one.exists() and not overwrite:
            raise FileExistsError(f"{one} exists. Choose another path, or pass overwrite=True to replace it.")
    ending = ENDINGS.get(format) if isinstance(format, str) else None
    if ending and path.exists() and not (path.is_file() and path.suffix == ending):
        raise ValueError(f"`filepath` must be a file that ends in {ending} to be replaced, got {path}.")
    if weights or ending is None:  # several files; or no format, as Keras will say
        yield path
    else:
        with files.replacing(path) as part:
            yield part


def check(path: Path, overwrite: bool) -> None:
    """Raises where a version can't be written, as `claimed` would; leaves nothing behind.

    Raises:
        OSError: it exists and may not be replaced, or its folder can't be written into.
        ValueError: what exists is no SavedModel; TensorFlow takes the path for a pattern.
    """
    if files.is_pattern(path) and files.is_pattern(os.path.relpath(path)):
        raise ValueError(
            f"TensorFlow takes the characters * ? [ \\ in a path for a pattern, and couldn't load a SavedModel from {path}: "
            "choose a folder whose name has none of them."
        )
    if path.name.isdecimal() and path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists. Choose another version, or pass overwrite=True to replace it.")
        found = {one.name for one in path.iterdir()} if path.is_dir() else {path.name}
        if found and ("saved_model.pb" not in found or found - OF_SAVED_MODEL):
            others = ", ".join(sorted(found - OF_SAVED_MODEL)[:3]) or "no saved_model.pb"
            raise ValueError(
                f"`path` must be the folder of a SavedModel to be replaced, got {path}, which holds other files ({others})."
            )
    folder = path.absolute().parent if path.name.isdecimal() else path.absolute()
    files.check_can_be_written(folder, f"Nothing can be exported to {path}")


def _next(path: Path) -> int:
    taken = [int(folder.name) for folder in path.glob("*") if folder.name.isdecimal()]
    return max(taken, default=0) + 1
