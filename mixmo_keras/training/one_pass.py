"""Python generators, which pass over their data once: what `fit` must not ask of them.

Keras reads the first two batches of a generator to see their shapes, and puts them back. Behind the generator's end it would
take these two for a second pass.
"""

import types
from collections.abc import Iterator
from typing import Any

import keras

from mixmo_keras.training import data_checks

_INSTEAD = "pass a tf.data.Dataset or a keras.utils.PyDataset, which begin anew"


class OnePass:
    """A generator of batches whose images are checked, and how many it gave.

    Attributes:
        given: The number of batches so far.
        ended: Whether there are no more.
    """

    def __init__(self, generator: types.GeneratorType, image_shape: tuple[int, int, int]):
        self._generator, self._image_shape = generator, image_shape
        self.given, self.ended = 0, False

    def batches(self) -> Iterator:
        """The batches. Raises `ValueError` for images of another shape than the model's."""
        for batch in self._generator:
            images, *_ = batch if isinstance(batch, (tuple, list)) else (batch,)
            if len(getattr(images, "shape", ())):
                data_checks.check_image_shape(images, self._image_shape)
            self.given += 1
            yield batch
        self.ended = True


class OnePassCallback(keras.callbacks.Callback):
    """Ends a `fit` whose generator has ended before its epochs: at the end of the epoch that it cuts short, or behind it.

    Args:
        data: The generator.
        steps_per_epoch: As `fit` was told.
    """

    def __init__(self, data: OnePass, steps_per_epoch: int):
        super().__init__()
        self._data, self._steps_per_epoch = data, steps_per_epoch
        self._epochs_begun = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epochs_begun += 1
        self._check()

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 < self.params["epochs"]:
            self._check()

    def _check(self) -> None:
        needed = self._epochs_begun * self._steps_per_epoch
        if self._data.ended and self._data.given < needed:
            raise ValueError(
                f"The generator ended after {self._data.given} batches; {self._epochs_begun} epochs of steps_per_epoch="
                f"{self._steps_per_epoch} take {needed}. A generator passes over its data once: {_INSTEAD}, or fewer steps."
            )


def watched_in_fit(model, x: Any, epochs: int, steps_per_epoch: int | None, options: dict) -> tuple[Any, list]:
    """`watched` of `fit`'s data, as it was called; `options` are its others.

    Raises:
        ValueError: it would need a second pass over a generator, of training or of validation data.
    """
    validation, validation_freq = options.get("validation_data"), options.get("validation_freq", 1)
    epochs -= options.get("initial_epoch", 0)
    if isinstance(x, types.GeneratorType) and epochs > 1 and steps_per_epoch is None:
        raise ValueError(
            f"A generator passes over its data once, and `fit` was asked for {epochs} epochs: {_INSTEAD} in every epoch, or "
            "`steps_per_epoch` with a generator of at least steps_per_epoch * epochs batches."
        )
    passes = epochs // validation_freq if isinstance(validation_freq, int) else len(validation_freq)
    if isinstance(validation, types.GeneratorType) and passes > 1:
        raise ValueError(
            f"A generator passes over its data once, and `fit` was asked for {passes} validations: as `validation_data` "
            f"{_INSTEAD} each time."
        )
    return watched(x, model.image_shape, steps_per_epoch)


def watched(x: Any, image_shape: tuple[int, int, int], steps_per_epoch: int | None = None) -> tuple[Any, list]:
    """A generator as one that checks its images, and callbacks that see to its end; other data as they are, and none."""
    if not isinstance(x, types.GeneratorType):
        return x, []
    data = OnePass(x, image_shape)
    return data.batches(), [] if steps_per_epoch is None else [OnePassCallback(data, steps_per_epoch)]
