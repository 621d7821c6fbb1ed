"""A class of each pixel: maps of logits from a decoder, softmax and cross-entropy over the pixels that count."""

import dataclasses
import warnings
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from mixmo_keras.common import arguments
from mixmo_keras.metrics import calibration, class_charts, correctness, pixels, uncertainty
from mixmo_keras.metrics.pixels import MeanIoU, PixelAccuracy, PixelStatistics
from mixmo_keras.mixing import augmentation
from mixmo_keras.networks import maps
from mixmo_keras.networks.decoders import DECODERS, MapHead
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.tasks.task import Task, number_or_names
from mixmo_keras.training import losses

PIXELS = 256  # of each image that calibration and charts look at
VALUES_AT_ONCE = 2**26  # of a member's outputs
_SHOWN = 5  # classes that a message names


@keras.saving.register_keras_serializable("mixmo_keras")
class PixelCrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of each pixel, of an image the mean over its pixels that count: 0 where none does.

    Targets are label maps (n, H, W), or, as a training step has them, labels and weights of pixels (n, H, W, 2).

    Args:
        ignore: The label of pixels that don't count; `None` for none.
    """

    def __init__(
        self, ignore: int | None = 255, name="pixel_cross_entropy", reduction="sum_over_batch_size", dtype=None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.ignore = None if ignore is None else arguments.integer("ignore", ignore)

    def call(self, y_true, y_pred):
        if len(y_true.shape) == 4 and y_true.shape[-1] == 2:
            labels, weights = ops.cast(y_true[..., 0], "int32"), ops.cast(y_true[..., 1], y_pred.dtype)
        else:
            labels = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
            weights = ops.cast(_count(labels, self.ignore), y_pred.dtype)
        labels = ops.clip(labels, 0, y_pred.shape[-1] - 1)  # those that count are in range
        values = ops.sparse_categorical_crossentropy(labels, y_pred, from_logits=True) * weights
        return ops.sum(values, axis=(1, 2)) / ops.maximum(ops.sum(weights, axis=(1, 2)), 1e-6)

    def get_config(self):
        return {**super().get_config(), "ignore": self.ignore}


def _count(labels, ignore: int | None):
    """Which pixels count, booleans."""
    return ops.ones_like(labels, "bool") if ignore is None else ops.not_equal(labels, ignore)


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """A class of K for each pixel: the softmax of an ensemble's logits (n, H, W, K) is its prediction.

    Targets are label maps (n, H, W) or (n, H, W, 1) of the images' size: integers from 0 to K − 1, or `ignore`. Crops and
    flips of the augmentation move them with their images. Members are shown parts of images under Cut-MixMo, and CutMix
    shows parts of two: each pixel has the label of what is seen there, and a member's loss is the mean over pixels, weighted
    by how much of the member they show.

    The network takes the core's maps at up to four depths (`networks.maps`), a decoder that all members share, and for each
    member a 1×1 convolution. Logits are enlarged to the images' size.

    Args:
        classes: K ≥ 2, or the classes' names.
        ignore: The label of pixels that don't count; `None` for none. Defaults to 255.
        decoder: `"light"`, a feature pyramid, or `"upernet"`.
        width: The decoder's channels. UPerNet's paper has 512. Defaults to 64.

    Example:

    ```python
    from mixmo_keras import tasks

    model = mixmo_keras.CutMixMo("resnet50", input_shape=(512, 512, 3), task=tasks.Segmentation(150, decoder="upernet"))
    ```
    """

    classes: int | tuple[str, ...]
    ignore: int | None = 255
    decoder: str = dataclasses.field(default="light", compare=False)
    width: int = dataclasses.field(default=64, compare=False)

    are_maps: ClassVar[bool] = True
    least_to_calibrate: ClassVar[int] = 10  # each has many pixels
    monitor: ClassVar[tuple[str, str]] = ("val_mean_iou", "max")
    watched: ClassVar[str] = "mean_iou"
    columns = pixels.COLUMNS
    columns_of_parts = pixels.COLUMNS_OF_CLASSES
    outputs_in_words: ClassVar[str] = (
        "of each pixel: label, confidence, predictive entropy, mutual information (nats), high where members disagree"
    )

    def __post_init__(self):
        classes = number_or_names("classes", self.classes)
        object.__setattr__(self, "classes", classes)
        arguments.integer("classes", self.num_pixel_classes, least=2)
        if self.ignore is not None:
            ignore = arguments.integer("ignore", self.ignore)
            if 0 <= ignore < self.num_pixel_classes:
                raise ValueError(
                    f"`ignore` (={ignore}) is one of the {self.num_pixel_classes} classes, 0 to "
                    f"{self.num_pixel_classes - 1}: pass another label, such as 255, or None."
                )
            object.__setattr__(self, "ignore", ignore)
        arguments.choice("decoder", self.decoder, DECODERS)
        object.__setattr__(self, "width", arguments.integer("width", self.width, least=1))

    @property
    def num_pixel_classes(self) -> int:
        """K."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def border(self) -> int:  # type: ignore[override]
        """The label of what augmentation brings in from outside of an image."""
        return 0 if self.ignore is None else self.ignore

    # -- the network -----------------------------------------------------------------------------------------------------

    def core(self, core):
        return maps.with_maps(core)

    def heads(self, num_members, shared, kernel_initializer, image_size):
        sizes = (num_members, self.num_pixel_classes, image_size)
        return MapHead(*sizes, self.decoder, self.width, shared, kernel_initializer, name="heads")

    def pooling(self, averaging, temperature, applies_to):
        return MemberAverage(self.averaging_of(averaging), temperature, applies_to, dtype="float32", name="average")

    # -- targets ---------------------------------------------------------------------------------------------------------

    def check_shape(self, targets):
        shape = tuple(targets.shape)
        if len(shape) != 3 and (len(shape) != 4 or shape[3] not in (None, 1)):
            raise ValueError(f"Targets must be label maps (n, H, W) or (n, H, W, 1), got shape {shape}.")

    def check_size(self, targets, image_shape):
        sizes = zip(targets.shape[1:3], image_shape[:2], strict=True)
        if any(None not in pair and pair[0] != pair[1] for pair in sizes):
            raise ValueError(
                f"Label maps must have the size of their images, {image_shape[0]}×{image_shape[1]} pixels, got "
                f"{targets.shape[1]}×{targets.shape[2]}."
            )

    def check(self, targets):
        values = np.unique(targets)
        wrong = values[~self._are_right(values)]
        if len(wrong):
            raise self.error(float(wrong.min()), float(wrong.max()))

    def _are_right(self, labels):
        right = (labels >= 0) & (labels < self.num_pixel_classes) & (labels == labels // 1)
        return right if self.ignore is None else right | (labels == self.ignore)

    def wrong(self, targets):
        targets = ops.cast(targets, "float32")
        wrong = ops.logical_not(self._are_right(targets))
        least, most = (ops.where(wrong, targets, other) for other in (2.0**100, -(2.0**100)))
        return ops.any(wrong), ops.min(least), ops.max(most)

    def error(self, first, second):
        others = "" if self.ignore is None else f", or {self.ignore} where they don't count"
        return ValueError(
            f"Label maps must hold integers from 0 to {self.num_pixel_classes - 1}{others}; the data hold others, from "
            f"{first:g} to {second:g}."
        )

    def canonical(self, targets):
        targets = targets[..., 0] if len(targets.shape) == 4 else targets
        return ops.cast(targets, "int32")

    def to_evaluate(self, targets, count):
        targets = np.asarray(targets)
        self.check_shape(targets)
        if len(targets) != count:
            raise ValueError(f"There are {len(targets)} label maps for {count} images.")
        self.check(targets)
        return (targets[..., 0] if targets.ndim == 4 else targets).astype("int32")

    # -- training ----------------------------------------------------------------------------------------------------------

    def check_settings(self, msda, co_training):
        if msda is not None and msda.method != "cutmix":
            raise ValueError(
                f"msda={msda.method!r} can't be combined with a segmentation: it shows two images in each pixel, which has "
                "one class. Use msda='cutmix'."
            )
        if co_training is not None and co_training.teaching != "softmax":
            raise ValueError(
                f"teaching={co_training.teaching!r} can't be combined with a segmentation: its pixels have one class each. "
                "Use teaching='softmax'."
            )

    def check_augmentation(self, augment):
        if not augmentation.moves_maps(augment):
            raise ValueError(
                f"augmentation={augment!r} can't be combined with a segmentation: it doesn't say how label maps move with "
                "their images. PadCropFlip, RandomResizedCrop, RandomErasing and Compose of them do."
            )

    def check_fit(self, options):
        if options.get("class_weight") is not None:
            raise ValueError("`class_weight` weighs images by their one class; a segmentation has one for each pixel.")

    def prepare(self, model, x, y, steps):
        """Warns of classes that no pixel of an array has."""
        if y is None or not hasattr(y, "shape"):
            return
        there = np.unique(ops.convert_to_numpy(y))
        missing = [name for label, name in enumerate(self.names(None)) if label not in there]
        if len(missing) == self.num_pixel_classes:
            raise ValueError(f"No pixel of the training data counts: all labels are {self.ignore}.")
        if missing:
            more = f" and {len(missing) - _SHOWN} others" if len(missing) > _SHOWN else ""
            warnings.warn(
                f"No pixel of the training data has class {', '.join(missing[:_SHOWN])}{more}: nothing can be learnt of it.",
                stacklevel=3,
            )

    def seen(self, targets, partners, pixel_masks, masks):
        """Labels and weights of pixels (B, M, H, W, 2): of the image seen there, and how much of the member is seen."""
        if partners is not None:
            targets = ops.where(pixel_masks[..., 0] > 0.5, targets, partners)
        weights = ops.cast(_count(targets, self.ignore), "float32")
        if masks is not None:
            shown = _enlarged(ops.mean(masks, axis=-1), targets.shape[2:4])
            is_seen = ops.max(shown, axis=(2, 3), keepdims=True) > 0
            weights = weights * ops.where(is_seen, shown, 1.0)
        return ops.stack([ops.cast(targets, "float32"), weights], axis=-1)

    def loss(self, teaching=None):
        return PixelCrossEntropy(self.ignore)

    def checked_loss(self, loss, model):
        loss = keras.losses.get(loss)
        if not isinstance(loss, PixelCrossEntropy):
            name = losses.name_of(loss) or getattr(loss, "name", loss)
            raise ValueError(
                f"{name} doesn't take weights of pixels, as a step of a segmentation has them: leave `loss` out, or pass a "
                "subclass of tasks.PixelCrossEntropy."
            )
        return losses.checked_reduction(loss)

    def metrics(self):
        return [kind(self.num_pixel_classes, self.ignore) for kind in (MeanIoU, PixelAccuracy)]

    # -- after training ----------------------------------------------------------------------------------------------------

    def sample(self, member_outputs, targets):
        """Small maps, (n, M, p, 1, K) and (n, p, 1): `PIXELS` pixels of each image that count, evenly spaced.

        Where fewer count, others stand in, with the ignored label.
        """
        outputs, labels = [], []
        for of_image, label_map in zip(member_outputs, targets, strict=True):
            places = np.argsort(~self._counts(label_map).ravel(), kind="stable")  # those that count first
            number = max(int(self._counts(label_map).sum()), min(PIXELS, label_map.size))
            places = places[np.linspace(0, number - 1, min(PIXELS, number)).astype(int)]
            outputs.append(of_image.reshape(len(of_image), -1, 1, of_image.shape[-1])[:, places])
            labels.append(label_map.reshape(-1, 1)[places])
        return np.stack(outputs), np.stack(labels)

    def _counts(self, targets) -> np.ndarray:
        return np.full(targets.shape, True) if self.ignore is None else targets != self.ignore

    def _pixels(self, member_outputs, targets) -> tuple[np.ndarray, np.ndarray]:
        """Those that count of a sample of maps: outputs (p, M, K) and labels (p,)."""
        member_outputs, targets = self.sample(member_outputs, targets)
        counts = self._counts(targets)
        return np.moveaxis(member_outputs, 1, -2)[counts], targets[counts]

    def calibrate(self, average, member_outputs, targets, applies_to, label_noise):
        if label_noise is not None:
            raise ValueError("`label_noise` is about one class an image: a temperature of pixels does without.")
        member_outputs, targets = self._pixels(member_outputs, targets)
        if not len(targets):
            raise ValueError(f"No pixel to calibrate on counts: all labels are {self.ignore}.")
        if applies_to == "members" and average.averaging == "probabilities":
            return calibration.fit_member_temperature(member_outputs, targets)
        logits = ops.convert_to_numpy(average.pool(ops.convert_to_tensor(member_outputs, "float32")))
        return calibration.fit_temperature(logits, targets)

    def nll(self, average, member_outputs, targets):
        member_outputs, targets = self._pixels(member_outputs, targets)
        logits = ops.convert_to_numpy(average(ops.convert_to_tensor(member_outputs, "float32")))
        return correctness.negative_log_likelihood(logits, targets) if len(targets) else 0.0

    def figures(self, average, member_outputs, targets):
        return self.figures_of_batches(average, [(member_outputs, targets)])

    def figures_of_batches(self, average, batches) -> dict[str, Any]:
        """Of each member, and of the ensemble with and without its temperature; maps are forgotten once they are counted."""
        by_network: dict[str, PixelStatistics] = {}
        for member_outputs, targets in batches:
            outputs = ops.convert_to_tensor(member_outputs, "float32")
            answers = {"ensemble": average(outputs), "uncalibrated": average.pool(outputs)}
            answers |= {str(member): member_outputs[:, member] for member in range(member_outputs.shape[1])}
            for name, logits in answers.items():
                statistics = by_network.setdefault(name, PixelStatistics(self.num_pixel_classes, self.ignore))
                statistics.update(ops.convert_to_numpy(logits), targets)
        figures = {name: statistics.figures() for name, statistics in by_network.items()}
        networks = {name: figures.pop(name) for name in ("ensemble", "uncalibrated")}
        return {**networks, "members": list(figures.values()), "names": self.names(None)}

    def at_once(self, image_shape, most):
        return min(most, max(1, VALUES_AT_ONCE // (image_shape[0] * image_shape[1] * self.num_pixel_classes)))

    def charts(self, average, member_outputs, targets):
        member_outputs, targets = self._pixels(member_outputs, targets)
        if not len(targets):
            return []
        logits = ops.convert_to_numpy(average(ops.convert_to_tensor(member_outputs, "float32")))
        return class_charts.charts({"ensemble": logits}, targets, what="pixels")

    def headline(self, figures):
        return pixels.headline(figures)

    def doubt(self, average, member_outputs):
        logits = average(ops.convert_to_tensor(member_outputs, "float32"))
        entropy = uncertainty.predictive_entropy(ops.reshape(logits, (-1, logits.shape[-1])))
        return ops.convert_to_numpy(entropy).reshape(len(logits), -1).mean(1)

    def in_words(self, member_outputs, average, target):
        answers = self._served(member_outputs[None], average)
        counts, sure = self._counts(target), float(answers["confidence"].mean())
        right = (answers["label_map"][0] == target)[counts]
        shown = f"{right.mean():.0%} of pixels right" if len(right) else "no pixel counts"
        return [shown, f"confidence {sure:.0%} on average"]

    def pictures(self, average, member_outputs, targets):
        answers, several = self._served(member_outputs, average), member_outputs.shape[1] > 1
        return pixels.pictures(targets, answers, self.ignore, self.names(None), several)

    def _served(self, member_outputs, average) -> dict[str, np.ndarray]:
        served = self.served(ops.convert_to_tensor(member_outputs, "float32"), average)
        return {name: ops.convert_to_numpy(values) for name, values in served.items()}

    # -- serving ---------------------------------------------------------------------------------------------------------

    def served(self, member_outputs, average):
        logs = ops.log_softmax(average(member_outputs), axis=-1)
        of_members = ops.softmax(member_outputs, axis=-1)
        return {
            "label_map": ops.argmax(logs, axis=-1),
            "confidence": ops.exp(ops.max(logs, axis=-1)),
            "predictive_entropy": -ops.sum(ops.exp(logs) * logs, axis=-1),
            "mutual_information": uncertainty.information_of_members(member_outputs),
            "member_label_map": ops.argmax(of_members, axis=-1),
            "member_confidence": ops.max(of_members, axis=-1),
        }

    def summary(self, images, names):
        shown = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
        return f"Gives each pixel of {images} one of {len(names)} classes: {shown}."

    def limits(self):
        return ["It gives every pixel one of its classes, also a pixel of anything else."]


def _enlarged(shares, size: tuple[int, int]):
    """Maps (B, M, h, w) as (B, M, H, W): each pixel has the value of the position that it lies in."""
    for axis, length in enumerate(size, start=2):
        of = shares.shape[axis]
        shares = shares if of == length else ops.take(shares, np.arange(length) * of // length, axis=axis)
    return shares
