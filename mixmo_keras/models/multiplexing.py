"""The other face of a multi-input multi-output network: M different images in one pass, M times the throughput."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE, Ensemble, check_images, fit_temperature, iterate
from mixmo_keras.networks.layers import MixingBlock, MultiEncoder, MultiHead
from mixmo_keras.networks.multiplexing import answers, image_of_each_seat
from mixmo_keras.networks.temperature import Temperature
from mixmo_keras.training import checks, data_checks

PASSES_AT_ONCE = 32  # as many rows as `keras.Model.predict` has
WINDOW_BYTES = 2**28  # of float32 images that are seated together
MUCH_REPETITION = 0.5  # ρ from which on this mode lost 28 points on digits, at ρ = 0 it loses three


class Multiplexing(Ensemble):
    """An `Ensemble` whose members can each be shown another image: encoders bind, heads unbind.

    Subclasses set `normalize`, `encoders`, `mixing_block`, `core` and `heads`, and `temperature_of_multiplexed`.
    """

    normalize: keras.layers.Layer
    encoders: MultiEncoder
    mixing_block: MixingBlock
    core: keras.Model
    heads: MultiHead
    temperature_of_multiplexed: Temperature

    @property
    def multiplexed_temperature(self) -> float:
        """T by which the logits of `predict_multiplexed` are divided. A variable, as `temperature` is, fitted beside it."""
        return self.temperature_of_multiplexed.temperature

    @multiplexed_temperature.setter
    def multiplexed_temperature(self, value: float):
        self.temperature_of_multiplexed.temperature = value

    def count_params(self) -> int:
        return super().count_params() - len(self.temperature_of_multiplexed.weights)  # a scalar

    def why_not_multiplexed(self) -> str | None:
        if self.num_members == 1:
            return "it has one member (`num_members`=1), and a pass one seat"
        if self.encoders.shared or self.heads.shared:
            return (
                f"its members share {'encoders' if self.encoders.shared else 'heads'} (`share`): nothing tells whose image "
                "an answer is about"
            )
        if self.batching.input_repetition == 1:
            return "it was trained with `input_repetition`=1, which never shows members different images"
        return None

    def multiplexed(self) -> keras.Model:
        self.check_multiplexed()
        self.warn_where_little_trained()
        return super().multiplexed()

    def predict_multiplexed(self, x, batch_size: int | None = None, seed: int | None = None) -> np.ndarray:
        """Logits (n, K) of n images, M of which share a pass: M times as fast as `predict`, and no ensemble.

        Image i sits in pass ⌊i/M⌋ as member i mod M, whatever batches images come in. If n leaves seats of the last pass
        free, the images of that pass sit there again, in turn, and their answers are averaged: of M = 3 seats, two images
        a and b take (a, b, a), and a single one takes all three, so that it is answered as by the ensemble. Features are
        mixed as at the ensemble's inference, in equal parts.

        An answer depends on who shares the pass; `evaluation.evaluate(..., multiplexed=True)` says how much.
        Images of different people should not share one where somebody could gain by changing another's answer.

        Args:
            x: Images (n, H, W, C), raw pixels; or a dataset of batches of them, or of (images, labels).
            batch_size: Number of images computed at once, rounded up to whole passes. Defaults to 32 passes.
            seed: Draws who sits with whom: images are permuted before they are seated, and answers put back. Of data that
                are sorted by class, neighbours are no random partners. Permuted are as many images at a time as make
                256 MB in float32. Defaults to the order in which images come.

        Raises:
            ValueError: the model has one member, shared heads or encoders, or was never shown different images (ρ = 1); no
                image, images of another shape, or not finite: the others in their passes would suffer too.

        Warns:
            UserWarning: half of the training rows or more showed all members the same image (ρ ≥ 0.5), or mixing always
                cut patches; or as `predict` does.
        """
        self.check_multiplexed()
        self.warn_where_little_trained()
        passes = _Passes(self, batch_size, seed)
        with checks.watching_pixels(self):
            for images in _batches_of_images(x):
                passes.add(check_images(images, self.image_shape))
            return passes.logits() / np.float32(self.multiplexed_temperature)

    def predict_both_with_labels(
        self, x, y=None, batch_size: int = EVALUATED_AT_ONCE, seed: int = 0, steps: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `predict_with_labels`, and in the same pass over the data the logits (n, K) of M images a pass.

        Args:
            x: Images, or a dataset of batches of (images, labels).
            y: Labels, if x is images.
            batch_size: Of images.
            seed: Draws who sits with whom, as in `predict_multiplexed`. Defaults to 0.
            steps: Number of batches to take. Defaults to all.

        Returns:
            Logits of every member (n, M, K), labels (n,), and logits of M images a pass (n, K), without temperature.
        """
        self.check_multiplexed()
        passes = _Passes(self, batch_size, seed)

        def noted():
            for images, labels in iterate(x, y, batch_size, steps):
                yield images, labels
                passes.add(np.asarray(images))  # which were found to be sound by now

        with checks.watching_pixels(self):
            member_logits, labels = self._logits_and_labels(noted())
            return member_logits, labels, passes.logits()

    def predict_passes(self, passes, batch_size: int = PASSES_AT_ONCE) -> np.ndarray:
        """Logits (p, M, K) of passes (p, M, H, W, C) whose seats the caller filled. The temperature is not in them.

        Args:
            passes: Raw pixels: an image for each member.
            batch_size: Number of passes computed at once. Defaults to 32.
        """
        self.check_multiplexed()
        return self._seated_network().predict(passes, batch_size=batch_size, verbose=0)

    def _seated_network(self) -> keras.Model:
        """Passes (p, M, H, W, C) to the logits of their seats (p, M, K), of this model's own layers."""

        def connect():
            images = keras.Input((self.num_members, *self.image_shape), name="passes")
            features = self.mixing_block(self.encoders(self.normalize(images)))
            return images, self.heads(self.core(features))

        return self._other_network("seated", connect)

    def warn_where_little_trained(self) -> None:
        """Warns if training showed members few different images (ρ ≥ 0.5), or never features that are summed everywhere."""
        repetition, mixing = self.batching.input_repetition, self.batching.mixing
        if repetition >= MUCH_REPETITION:
            warnings.warn(
                f"With `input_repetition`={repetition:g} only {1 - repetition:.0%} of the training rows showed members "
                "different images: expect several images a pass to be answered much worse than by the ensemble.",
                stacklevel=3,
            )
        if mixing is not None and mixing.is_always_binary:
            warnings.warn(
                "The mixing of this model (probability=1, decay_start=None) always cut patches: features of different "
                "images that are summed everywhere, as in `predict_multiplexed`, were never trained.",
                stacklevel=3,
            )

    # -- temperature -----------------------------------------------------------------------------------------------------

    def calibrate(
        self,
        x,
        y=None,
        batch_size: int = EVALUATED_AT_ONCE,
        temperature_applies_to: str | None = None,
        label_noise: float | str | None = None,
        multiplexed: bool | None = None,
        *,
        steps: int | None = None,
    ) -> float:
        """As `Ensemble.calibrate`, and `multiplexed_temperature` is fitted beside the temperature.

        Args:
            x, y, batch_size, temperature_applies_to, label_noise, steps: As in `Ensemble.calibrate`.
            multiplexed: Whether to fit `multiplexed_temperature` too, on images whose partners are drawn at random: 1/M
                passes more. Defaults to whether the model can do it.
        """
        if multiplexed is None:
            multiplexed = self.why_not_multiplexed() is None
        elif arguments.boolean("multiplexed", multiplexed):
            self.check_multiplexed()
        if not multiplexed:
            return super().calibrate(x, y, batch_size, temperature_applies_to, label_noise, steps=steps)
        member_logits, labels, logits = self.predict_both_with_labels(x, y, batch_size, steps=steps)
        temperature = self.calibrate_on(member_logits, labels, temperature_applies_to, label_noise)
        self.calibrate_multiplexed_on(logits, labels, label_noise)
        return temperature

    def calibrate_multiplexed_on(self, logits, labels, label_noise: float | str | None = None) -> float:
        """Fits `multiplexed_temperature` on logits (n, K) without temperature, as `predict_both_with_labels` gives them."""
        self.check_multiplexed()
        if np.ndim(logits) != 2 or np.shape(logits)[1] != self.num_classes:
            raise ValueError(f"`logits` must be (n, {self.num_classes}), got shape {np.shape(logits)}.")
        self.multiplexed_temperature = fit_temperature(logits, labels, label_noise)
        return self.multiplexed_temperature


class _Passes:
    """Images that come bit by bit, seated M a pass, and what the network answers."""

    def __init__(self, model: Multiplexing, batch_size: int | None, seed: int | None):
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
        logits = self.model._seated_network().predict(passes, batch_size=self.at_once, verbose=0)
        logits = answers(ops.convert_to_tensor(logits, "float32"), count, self.model.average.averaging)
        in_order = np.empty(logits.shape, "float32")
        in_order[order] = ops.convert_to_numpy(logits)
        self.answered.append(in_order)


def _batches_of_images(x):
    """The batches of images in what `predict_multiplexed` is given, as NumPy arrays."""
    if hasattr(x, "shape"):
        yield x
        return
    if isinstance(x, str) or not hasattr(x, "__iter__"):
        raise ValueError(f"`x` must be images, or batches of them, got {x!r}.")
    data_checks.check_ends(x, "predict_multiplexed", steps_name=None)
    for batch in data_checks.batches_of(x):
        yield batch[0] if isinstance(batch, (tuple, list)) else batch
