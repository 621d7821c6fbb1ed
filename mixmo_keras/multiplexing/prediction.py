"""Predictions of M images a pass, and their temperature."""

import math
from collections.abc import Iterator

import numpy as np
from keras import ops

from mixmo_keras.common import arguments, numbering
from mixmo_keras.metrics import calibration
from mixmo_keras.multiplexing.network import check, seated, warn_where_little_trained
from mixmo_keras.multiplexing.seats import answers, image_of_each_seat
from mixmo_keras.training import data_checks, incidents, predicting

PASSES_AT_ONCE = 32  # as many rows as `keras.Model.predict` has
WINDOW_BYTES = 2**28  # of float32 images that are seated together


def predict(model, x, batch_size: int | None = None, seed: int | None = None) -> np.ndarray:
    """Logits (n, K) of n images, with their temperature; `MixMo.predict_multiplexed` says all."""
    check(model)
    warn_where_little_trained(model)
    passes = _Passes(model, batch_size, seed)
    with incidents.watching_pixels(model, stacklevel=6):
        for images in _batches_of_images(x):
            passes.add(data_checks.sound_images(images, model.image_shape))
        return passes.logits() / np.float32(model.multiplexed_temperature)


def predict_both_with_labels(
    model, x, y=None, batch_size: int = 256, seed: int = 0, steps: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `MixMo.predict_with_labels`, and in the same pass over the data the logits (n, K) of M images a pass.

    Args:
        model: A `MixMo`.
        x: Images, or a dataset of batches of (images, labels).
        y: Labels, if x is images.
        batch_size: Of images.
        seed: Draws who sits with whom, as in `predict_multiplexed`. Defaults to 0.
        steps: Number of batches to take. Defaults to all.

    Returns:
        Logits of every member (n, M, K), labels (n,), and logits of M images a pass (n, K), without temperature.
    """
    check(model)
    numbering.check(model, x)
    passes = _Passes(model, batch_size, seed)

    def noted():
        for images, labels in data_checks.labelled_batches(x, y, batch_size, steps):
            yield images, labels
            passes.add(np.asarray(images))  # which were found to be sound by now

    with incidents.watching_pixels(model):
        member_logits, labels = predicting.logits_and_labels(model, noted())
        return member_logits, labels, passes.logits()


def predict_passes(model, passes, batch_size: int = PASSES_AT_ONCE) -> np.ndarray:
    """Logits (p, M, K) of passes (p, M, H, W, C) whose seats the caller filled. The temperature is not in them.

    Args:
        model: A `MixMo`.
        passes: Raw pixels: an image for each member.
        batch_size: Number of passes computed at once. Defaults to 32.
    """
    check(model)
    return seated(model).predict(passes, batch_size=batch_size, verbose=0)


def calibrate_on(model, logits, labels, label_noise: float | str | None = None) -> float:
    """Fits `multiplexed_temperature` on logits (n, K) without temperature, as `predict_both_with_labels` gives them."""
    check(model)
    if np.ndim(logits) != 2 or np.shape(logits)[1] != model.num_classes:
        raise ValueError(f"`logits` must be (n, {model.num_classes}), got shape {np.shape(logits)}.")
    model.multiplexed_temperature = calibration.fit(logits, labels, label_noise)
    return model.multiplexed_temperature


class _Passes:
    """Images that come bit by bit, seated M a pass, and what the network answers."""

    def __init__(self, model, batch_size: int | None, seed: int | None):
        self.model = model
        num_members = model.num_members
        if batch_size is None:
            self.at_once = PASSES_AT_ONCE
        else:
            self.at_once = -(-arguments.integer("batch_size", batch_size, least=1) // num_members)
        self.random = None if seed is None else np.random.default_rng(arguments.integer("seed", seed, least=0))
        window_passes = WINDOW_BYTES // (4 * num_members * math.prod(model.image_shape))
        self.window = num_members * max(window_passes, self.at_once)
        self.waiting: list[np.ndarray] = []
        self.answered: list[np.ndarray] = []

    def add(self, images: np.ndarray) -> None:
        self.waiting.append(images)
        if sum(map(len, self.waiting)) < self.window:
            return
        together = np.concatenate(self.waiting)
        whole = len(together) // self.window * self.window
        for start in range(0, whole, self.window):
            self._answer(together[start : start + self.window])
        self.waiting = [together[whole:]]

    def logits(self) -> np.ndarray:
        """The logits (n, K) of all images in the order in which they came; without temperature."""
        if any(map(len, self.waiting)):
            self._answer(np.concatenate(self.waiting))
            self.waiting = []
        if not self.answered:
            raise ValueError("The dataset is empty.")
        return np.concatenate(self.answered)

    def _answer(self, images: np.ndarray) -> None:
        count = len(images)
        order = np.arange(count) if self.random is None else self.random.permutation(count)
        seats = order[ops.convert_to_numpy(image_of_each_seat(count, self.model.num_members))]
        passes = images[seats].reshape(-1, self.model.num_members, *images.shape[1:])
        logits = seated(self.model).predict(passes, batch_size=self.at_once, verbose=0)
        logits = answers(ops.convert_to_tensor(logits, "float32"), count, self.model.average.averaging)
        in_order = np.empty(logits.shape, "float32")
        in_order[order] = ops.convert_to_numpy(logits)
        self.answered.append(in_order)


def _batches_of_images(x) -> Iterator[np.ndarray]:
    """The batches of images in what `predict_multiplexed` is given, as NumPy arrays."""
    if hasattr(x, "shape"):
        yield x
        return
    if isinstance(x, str) or not hasattr(x, "__iter__"):
        raise ValueError(f"`x` must be images, or batches of them, got {x!r}.")
    data_checks.check_ends(x, "predict_multiplexed", steps_name=None)
    for batch in data_checks.batches_of(x):
        yield batch[0] if isinstance(batch, (tuple, list)) else batch
