"""The rule for labels, in one place: each image has one class of K, or shares of the classes.

Labels are indices from 0 to K − 1, (n,) or (n, 1), which may be stored as floats; or rows (n, K) of numbers of at least 0
that sum to one, of which one-hot rows are the simplest. NumPy's arrays are looked at eagerly, tensors within a step.
"""

from typing import Any

import numpy as np
from keras import ops

SUM_TOLERANCE = 1e-2  # of shares in float16


# -- arrays and tensors --------------------------------------------------------------------------------------------------


def are_shares(labels) -> bool:
    """Whether labels are rows (n, K), and not indices (n,) or (n, 1)."""
    return len(labels.shape) == 2 and labels.shape[1] != 1


def squeezed(labels):
    """Indices (n, 1) as (n,); others as they are."""
    is_column = len(labels.shape) == 2 and labels.shape[1] == 1
    return labels[:, 0] if is_column else labels


def check_shape(labels, num_classes: int) -> None:
    """Raises `ValueError` for labels of another shape, as far as it is known when a step is traced."""
    shape = tuple(labels.shape)
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] not in (None, 1, num_classes)):
        raise ValueError(f"Labels must be integers (n,) or one-hot (n, {num_classes}), got shape {shape}.")


def are_wrong(labels, num_classes: int):
    """Whether each image's label is no class of K, and no shares of them: booleans (n,)."""
    eager = isinstance(labels, np.ndarray)
    xp: Any = np if eager else ops
    labels = squeezed(labels)
    numbers = labels.astype("float64") if eager else ops.cast(labels, "float32")
    if are_shares(labels):
        sums = xp.sum(numbers, axis=-1)
        right = xp.logical_and(xp.all(numbers >= 0, axis=-1), xp.abs(sums - 1) <= SUM_TOLERANCE)
    else:
        in_range = xp.logical_and(numbers >= 0, numbers < num_classes)
        right = xp.logical_and(in_range, xp.equal(numbers, xp.floor(numbers)))
    return xp.logical_not(right)  # NaN is never right


def as_indices(labels):
    """Labels as indices (n,): of shares the class with the most."""
    return ops.cast(ops.argmax(labels, axis=-1) if are_shares(labels) else squeezed(labels), "int32")


def most(labels: np.ndarray) -> np.ndarray:
    """Labels as `integers_or_shares` gives them as classes (n,): of shares the class with the most."""
    return labels.argmax(-1) if labels.ndim == 2 else labels


def as_shares(labels, num_classes: int, dtype: str = "float32"):
    """Labels as shares (n, K): one-hot rows of indices."""
    if are_shares(labels):
        return ops.cast(labels, dtype)
    return ops.one_hot(ops.cast(squeezed(labels), "int32"), num_classes, dtype=dtype)


# -- arrays --------------------------------------------------------------------------------------------------------------


def check(labels: np.ndarray, num_classes: int) -> None:
    """Raises `ValueError` where an array holds labels that are wrong; their shape is known to be right."""
    wrong = are_wrong(labels, num_classes)
    if not wrong.any():
        return
    if are_shares(labels):
        first = int(wrong.argmax())
        raise shares_error(num_classes, f", such as {labels[first]} at {first}")
    raise index_error(num_classes, float(labels.min()), float(labels.max()))


def integers(name: str, values: Any, num_classes: int | None = None, count: int | None = None) -> np.ndarray:
    """Labels of one class for each image as integers (n,), from indices or one-hot rows.

    Args:
        name: Of the argument.
        values: The labels.
        num_classes: K: labels are below it, and one-hot rows of this length. Defaults to any.
        count: Number of images that the labels are for. Defaults to any.

    Raises:
        ValueError: labels of another shape or number, or that are no class; shares of several classes.
    """
    array = np.asarray(values)
    most = "K" if num_classes is None else num_classes
    expected = f"integers (n,) or (n, 1), or one-hot rows (n, {most})"
    fits = array.ndim in (1, 2) and (not are_shares(array) or num_classes in (None, array.shape[1]))
    if array.dtype.kind not in "biuf" or not fits:
        raise ValueError(f"`{name}` must be {expected}, got {array.dtype} of shape {array.shape}.")
    if count is not None and len(array) != count:
        raise ValueError(f"`{name}` must be one for each image, got {len(array)} labels for {count} images.")
    if are_shares(array):
        wrong = ((array != 0) & (array != 1)).any(-1) | (array.sum(-1) != 1)
        if wrong.any():
            first = int(wrong.argmax())
            raise ValueError(f"`{name}` must be {expected}, got a row that is not one-hot at {first}: {array[first]}.")
        return array.argmax(-1)
    array = squeezed(array)
    wrong = are_wrong(array, 2**63 if num_classes is None else num_classes)
    if wrong.any():
        first = int(wrong.argmax())
        bounds = "of at least 0" if num_classes is None else f"from 0 to {num_classes - 1}"
        raise ValueError(f"`{name}` must be integers {bounds}, got {array[first]} at {first}.")
    return array.astype("int64")


def integers_or_shares(name: str, values: Any, num_classes: int, count: int | None = None) -> np.ndarray:
    """`integers`; or the shares of the classes (n, K), float64, where rows are those of several classes."""
    array = np.asarray(values)
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] != num_classes or np.isin(array, (0, 1)).all():
        return integers(name, values, num_classes, count)
    if count is not None and len(array) != count:
        raise ValueError(f"`{name}` must be one for each image, got {len(array)} labels for {count} images.")
    check(array, num_classes)
    return array.astype("float64")


# -- errors, of arrays and of what a step noted --------------------------------------------------------------------------


def index_error(num_classes: int, low: float, high: float) -> ValueError:
    """The error to raise for indices of which the lowest and the highest are named."""
    return ValueError(
        f"Labels must be integers from 0 to {num_classes - 1} for num_classes={num_classes}; "
        f"the data holds labels from {low:g} to {high:g}."
    )


def shares_error(num_classes: int, such_as: str = "") -> ValueError:
    """The error to raise for rows (n, K) that are no shares."""
    return ValueError(
        f"Labels (n, {num_classes}) must be one-hot, or shares of the classes: numbers of at least 0 that sum to one; the "
        f"data holds other rows{such_as}."
    )
