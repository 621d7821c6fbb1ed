"""Data that a model is given, checked before the first step: arrays by their values, on the host; datasets by their spec.

What only shows batch by batch, a dataset's values, is noticed in the step: `incidents`.
"""

import itertools
import math
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments, class_labels, numbering
from mixmo_keras.mixing.batch import unpack

BROKEN_PIXELS = "Images hold NaN or infinite pixels, which networks on a CPU turn into plausible answers."
MANY = 10_000  # batches after which data of unknown length are warned of
_ENOUGH_LABELS = 30  # to expect each half of the classes among them
_AT_ONCE = 1024  # rows that are looked at together: a mask of all would take a quarter of their memory


def check(
    model, x, y, sample_weight, verb: str, kind: str = "", steps: int | None = None, steps_name: str = "steps"
) -> None:
    """The checks that `verb`, such as "fit", can make of its arguments before the first step.

    Args:
        model: Whose `image_shape` (H, W, C) and `task` they must fit.
        x, y, sample_weight: As the verb takes them.
        verb: Whose arguments they are.
        kind: Of the dataset, such as "validation ".
        steps: The number of batches to take; `None` for all there are.
        steps_name: The argument that it is.

    Raises:
        ValueError: no data, data without end, values or shapes that the model can't take; a dataset with `class_names` in
            another order than the model's.
    """
    image_shape, task = model.image_shape, model.task
    numbering.check(model, x)
    if is_dataset(x):
        check_ends(x, verb, kind, steps, steps_name)
        images, labels, sample_weight, *_ = unpack(x.element_spec)
        if labels is not None and getattr(labels.shape, "rank", 0) is None:
            raise ValueError(
                f"The {kind}dataset doesn't say whether its labels are integers (n,) or something else: their spec has no "
                "rank. Say it by dataset.map(lambda images, labels: (images, tf.ensure_shape(labels, [None])))."
            )
        if getattr(images.shape, "rank", 0) is not None:
            check_shapes(images, labels, image_shape, task, sample_weight)  # else when a step is traced
        return
    check_is_data(x, image_shape, ", or a dataset of batches of (images, labels)")
    if isinstance(y, (list, tuple)):
        raise ValueError(f"Labels must be one array, got a {type(y).__name__} of {len(y)}: pass np.array(y).")
    if not hasattr(x, "shape"):
        check_ends(x, verb, kind, steps, steps_name)
        return  # batches from Python, whose shapes will be known when a step is traced
    if len(x.shape) and x.shape[0] == 0:
        raise ValueError(f"The {kind}dataset is empty: `{verb}` got images of shape {tuple(x.shape)}.")
    check_shapes(x, y, image_shape, task, sample_weight)
    check_pixels(x)
    if len(y) != len(x):
        raise ValueError(f"There are {len(y)} labels for {len(x)} images.")
    task.check(ops.convert_to_numpy(y))
    if sample_weight is not None:
        check_weights(sample_weight, len(x))


def check_fit(model, x, y, sample_weight, epochs, batch_size, steps_per_epoch, options: dict) -> None:
    """The checks that `fit` can make of its arguments before the first step; `options` are those without a default here.

    Raises:
        ValueError: as `check`, of the training and the validation data; counts that are none.
    """
    arguments.integer("epochs", epochs, least=1)
    arguments.integer("initial_epoch", options.get("initial_epoch", 0), least=0)
    check_count("batch_size", batch_size)
    check_count("steps_per_epoch", steps_per_epoch)
    arguments.number("validation_split", options.get("validation_split", 0.0), least=0, below=1)
    are_classes = model.task.why_only_classes() is None
    if (class_weight := options.get("class_weight")) is not None and are_classes:
        check_class_weight(class_weight, model.num_classes)
    check(model, x, y, sample_weight, "fit", "", steps_per_epoch, "steps_per_epoch")
    if are_classes:
        check_classes(x, y, model.num_classes)
    if (validation := options.get("validation_data")) is not None:
        if not isinstance(validation, (tuple, list)):
            validation = (validation,)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(tuple(validation))
        steps = options.get("validation_steps")
        check(model, images, labels, weights, "fit", "validation ", steps, "validation_steps")


def check_images_given(x, image_shape: tuple, verb: str, steps: int | None = None) -> None:
    """The checks that `verb`, such as "predict", can make of images, an array or a dataset, before the first step.

    Raises:
        ValueError: no image, data without end, pixels or shapes that the model can't take.
    """
    if is_dataset(x):
        check_ends(x, verb, "", steps)
        images, _, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        if getattr(getattr(images, "shape", None), "rank", None) is not None:
            check_image_shape(images, image_shape)
        return
    check_is_data(x, image_shape, ", or a dataset of batches of them")
    if not hasattr(x, "shape"):
        check_ends(x, verb, "", steps)
    else:
        check_image_shape(x, image_shape)
        if not len(x):
            raise ValueError(f"The dataset is empty: `{verb}` got images of shape {tuple(x.shape)}.")
        check_pixels(x)


def check_is_data(x, image_shape: tuple, otherwise: str) -> None:
    """Raises `ValueError` where x is nothing, a text, or a list of images."""
    if x is None or isinstance(x, (str, bytes, int, float)):
        raise ValueError(f"`x` must be images {_shape(image_shape)}{otherwise}, got {x!r}.")
    if isinstance(x, (list, tuple)) and not (len(x) == 1 and len(getattr(x[0], "shape", ())) == 4):
        raise ValueError(
            f"`x` must be one array {_shape(image_shape)}{otherwise}, got a {type(x).__name__} of {len(x)}: for a list of "
            "images pass np.stack(x)."
        )


def is_dataset(x) -> bool:
    """Whether x is a `tf.data.Dataset`, or a distributed one."""
    return hasattr(x, "element_spec")


def check_ends(data, verb: str, kind: str = "", steps: int | None = None, steps_name: str | None = "steps") -> None:
    """Raises `ValueError` for batches without end where no number of them is asked for, and for no batches at all.

    A `tf.data.Dataset` and a `keras.utils.PyDataset` say how many they have. A Python generator doesn't.

    Args:
        data: Batches of any kind.
        verb: Who wants them, such as "fit".
        kind: Of the data, such as "validation ".
        steps: The number of batches to take; `None` for all there are.
        steps_name: The argument that it is; `None` where there is none, and only what is known to never end is refused.
    """
    number = _num_batches(data)
    if number == 0:
        name = "tf.data.Dataset" if is_dataset(data) else type(data).__name__
        raise ValueError(f"The {kind}dataset is empty: `{verb}` got a {name} of no batches.")
    if steps is not None:
        return
    if number == math.inf and steps_name is None:
        raise ValueError(f"The {kind}data never end: take some of the batches.")
    if number == math.inf:
        raise ValueError(f"The {kind}data never end, and `{verb}` would not either: pass `{steps_name}`.")


def batches_of(data, steps: int | None = None) -> Iterator:
    """The batches of a dataset, as NumPy arrays, or of anything else that can be iterated: all, or the first `steps`.

    Warns where there are many and nothing tells whether they end: a filter, or a generator of Python's, can hide that.
    """
    batches = data.as_numpy_iterator() if hasattr(data, "as_numpy_iterator") else iter(data)
    is_list = hasattr(data, "__len__") and not is_dataset(data)  # which has a length that it may not know
    if steps is not None or is_list or _num_batches(data) is not None:
        yield from itertools.islice(batches, steps)
        return
    for number, batch in enumerate(batches):
        if number == MANY:
            warnings.warn(
                f"More than {MANY:,} batches were taken of data whose end is not known: if they never end, take some of "
                "them, or pass `steps`.",
                stacklevel=2,
            )
        yield batch


def sound_images(images, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Images as an array. Raises `ValueError` for another shape than the network's, or pixels that are no numbers."""
    images = images if hasattr(images, "shape") else np.asarray(images)
    check_image_shape(images, image_shape)
    check_pixels(images)
    return np.asarray(images)


def labelled_batches(x, y, batch_size: int, steps: int | None) -> Iterator[tuple]:
    """Batches of (images, labels), of arrays; or those of a dataset, less their weights. The first `steps` of them."""
    check_count("steps", steps)
    if y is not None:
        x, y = (values if hasattr(values, "shape") else np.asarray(values) for values in (x, y))
        if len(x) != len(y):
            raise ValueError(f"There are {len(y)} labels for {len(x)} images.")
        starts = range(0, len(y), arguments.integer("batch_size", batch_size, least=1))
        return ((x[start : start + batch_size], y[start : start + batch_size]) for start in starts[:steps])
    expected = "`x` must be images beside labels `y`, or batches of (images, labels)"
    if hasattr(x, "shape"):
        raise ValueError(f"Labels are missing: {expected}, got images of shape {tuple(x.shape)} alone.")
    if isinstance(x, str) or not hasattr(x, "__iter__"):
        raise ValueError(f"{expected}, got {x!r}.")
    check_ends(x, "this", steps=steps, steps_name=None)
    return map(_images_and_labels, batches_of(x, steps))


def _images_and_labels(batch) -> tuple:
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
        raise ValueError(f"Batches must be (images, labels) or (images, labels, sample weights), got {got}.")
    return batch[0], batch[1]


def _num_batches(data) -> float | None:
    """The number of batches of a dataset, infinity for one that is known to never end, `None` where it is not known."""
    if is_dataset(data):
        if not callable(getattr(data, "cardinality", None)):
            return None
        cardinality = int(data.cardinality())
        return {-1: math.inf, -2: None}.get(cardinality, cardinality)  # as tf.data has them
    if isinstance(data, keras.utils.PyDataset):
        return math.inf if data.num_batches is None else data.num_batches
    return None


def check_shapes(images, labels, image_shape: tuple, task, sample_weight=None) -> None:
    """Raises on wrong ranks, sizes and types, which are known when a step is traced.

    Raises:
        ValueError: labels are missing, or shapes don't fit the model.
    """
    if labels is None:
        raise ValueError("Labels are missing: pass `y`, or a dataset of (images, labels).")
    check_image_shape(images, image_shape)
    task.check_shape(labels)
    task.check_size(labels, image_shape)
    _check_numbers("Labels", labels)
    if sample_weight is not None:
        if tuple(sample_weight.shape[1:]) not in ((), (1,)):
            raise ValueError(f"`sample_weight` must be (n,), one for each image, got {tuple(sample_weight.shape)}.")
        _check_numbers("`sample_weight`", sample_weight)


def check_image_shape(images, image_shape: tuple) -> None:
    """Raises `ValueError` for images of another shape than the network's, or whose pixels are no numbers."""
    if len(images.shape) != 1 + len(image_shape) or any(
        None not in (found, length) and found != length
        for found, length in zip(images.shape[1:], image_shape, strict=True)
    ):
        raise ValueError(f"Images must be {_shape(image_shape)}, got {tuple(images.shape)}.")
    _check_numbers("Images", images)


def raise_of_shape(shape: tuple, image_shape: tuple, num_classes: int, cause: Exception) -> None:
    """Raises `ValueError` for a batch whose shape came out in a step: of images, or of labels."""
    if len(shape) >= len(image_shape):
        expected, what = _shape(image_shape), "Images"
    else:
        expected, what = f"integers (n,) or one-hot (n, {num_classes})", "Labels"
    raise ValueError(f"{what} must be {expected}, got {shape}: every batch of the data must be so.") from cause


def check_pixels(images) -> None:
    """Raises `ValueError` for NaN or infinite pixels in an array."""
    if not is_floating(images):
        return
    images = ops.convert_to_numpy(images)
    if not all(np.isfinite(images[start : start + _AT_ONCE]).all() for start in range(0, len(images), _AT_ONCE)):
        raise ValueError(BROKEN_PIXELS)


def check_weights(weights, num_images: int) -> None:
    """Raises `ValueError` for sample weights in an array that are negative, not finite, or not one for each image."""
    if len(weights) != num_images:
        raise ValueError(f"There are {len(weights)} values of `sample_weight` for {num_images} images.")
    weights = ops.convert_to_numpy(weights).reshape(len(weights))
    broken = ~(np.isfinite(weights) & (weights >= 0))
    if broken.any():
        raise weight_error(f" {weights[broken.argmax()]} at {broken.argmax()}")


def check_class_weight(class_weight: Any, num_classes: int) -> None:
    """Raises `ValueError` for weights of classes in another form than Keras takes, which leaves out unknown classes."""
    arguments.instance(
        "class_weight", class_weight, dict, "a dictionary from a class' index to its weight, such as {0: 1.0}"
    )
    for label, weight in class_weight.items():
        arguments.integer("class_weight's keys", label, least=0, most=num_classes - 1)
        arguments.number(f"class_weight[{label}]", weight, least=0)


def check_classes(x, y, num_classes: int) -> None:
    """Compares a model's K with the classes of its training data, as far as the data tell: K is easily left out.

    Args:
        x, y: As `fit` takes them, checked. Datasets of `keras.utils.image_dataset_from_directory` have `class_names`.
        num_classes: K.

    Raises:
        ValueError: the dataset names more classes.

    Warns:
        UserWarning: it names fewer; many labels, and none of them in the upper half of the classes.
    """
    names = getattr(x, "class_names", None)
    if is_dataset(x) and isinstance(names, (list, tuple)) and len(names) != num_classes:
        shown = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
        message = (
            f"The dataset has {len(names)} classes ({shown}) and the model num_classes={num_classes}: build the model with "
            f"num_classes={len(names)}."
        )
        if len(names) > num_classes:
            raise ValueError(message)
        warnings.warn(message, stacklevel=4)
    if not hasattr(x, "shape"):
        return
    labels = np.asarray(ops.convert_to_numpy(y))
    highest = int(np.max(labels.argmax(-1) if class_labels.are_shares(labels) else labels))
    # of 30 labels drawn from all classes, one in a billion times none is of the upper half
    if len(labels) >= max(_ENOUGH_LABELS, 10 * (highest + 1)) and 2 * (highest + 1) <= num_classes:
        warnings.warn(
            f"The model has num_classes={num_classes}, and {len(labels)} labels run from 0 to {highest} only: pass "
            f"num_classes={highest + 1} to the model if there are no more classes.",
            stacklevel=4,
        )


def check_count(name: str, value: Any) -> None:
    """Raises `ValueError` for an argument of Keras' that is neither an integer of at least 1 nor None."""
    if value is not None:
        arguments.integer(name, value, least=1)


def rank_of_labels(x, y) -> int | None:
    """The number of axes of the labels in an array, or a dataset; `None` where it isn't known before the first batch."""
    labels = unpack(x.element_spec).labels if is_dataset(x) else y
    shape = getattr(labels, "shape", None)
    return None if shape is None or getattr(shape, "rank", 0) is None else len(shape)


def is_floating(values) -> bool:
    """Whether values may be NaN."""
    return "float" in keras.backend.standardize_dtype(values.dtype)


# -- errors that the step raises too -------------------------------------------------------------------------------------


def copies_error(repetitions: int) -> ValueError:
    """The error to raise for batches that don't come repeated."""
    return ValueError(
        f"With `already_repeated` each batch has all its images, then all again, {repetitions} times, as "
        f"datasets.batches(..., repetitions={repetitions}) makes them; the data holds a batch with other labels in a copy."
    )


def weight_error(got: str) -> ValueError:
    """The error to raise for invalid sample weights."""
    return ValueError(f"`sample_weight` must be finite numbers of at least 0, got{got}.")


def _check_numbers(name: str, values) -> None:
    dtype = getattr(values.dtype, "name", str(values.dtype))
    if not dtype.startswith(("int", "uint", "float", "bfloat", "bool")):
        raise ValueError(f"{name} must be numbers, got {dtype}.")


def _shape(image_shape: tuple) -> str:
    return f"(n, {', '.join(map(str, image_shape))})"
