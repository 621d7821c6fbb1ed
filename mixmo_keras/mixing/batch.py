"""What a step shows to whom, as data: `draw` decides all that is random, `assemble` makes the rows of a step by it."""

import dataclasses
import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from mixmo_keras import arguments, seeds
from mixmo_keras.mixing import augmentation as augmentations
from mixmo_keras.mixing import msda as msdas
from mixmo_keras.mixing.mixing import Mixing, draw_masks, visible_ratios
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.mixing.pairing import row_of_each_member
from mixmo_keras.mixing.ratios import loss_weights

_OBJECTS = ("augmentation", "mixing", "msda")


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Batching:
    """What a training step shows to whom.

    Args:
        repetitions: b, how often a step uses each image of a batch: n images make n·b rows, each with its own augmentation
            and partners.
        already_repeated: whether the batches come repeated, all images and then all again, b times, as
            `datasets.batches(..., repetitions=b)` makes them to augment each copy on the CPU.
        augmentation: a layer `(images, seed) -> images` that augments each row on its own. `"pad_crop_flip"` is CIFAR's
            (`augmentation.PadCropFlip()`); `None` for none.
        mixing: how members are mixed. `None` sums their features and weighs them equally (MIMO).
        input_repetition: ρ in [0, 1], the share of rows that show the same image to all members (MIMO, section 4.2).
        msda: CutMix or MixUp inside each member's image: `"cutmix"`, `"mixup"`, an `MSDA`, or `None` for none.
    """

    repetitions: int = 4
    already_repeated: bool = False
    augmentation: keras.layers.Layer | str | None = "pad_crop_flip"
    mixing: Mixing | None = Mixing()
    input_repetition: float = 0.0
    msda: MSDA | str | None = None

    def __post_init__(self):
        checked = {
            "repetitions": arguments.integer("batch_repetitions", self.repetitions, least=1),
            "already_repeated": arguments.boolean("already_repeated", self.already_repeated),
            "mixing": arguments.instance("mixing", self.mixing, (Mixing, type(None)), "a mixmo_keras.Mixing or None"),
            "input_repetition": arguments.number("input_repetition", self.input_repetition, least=0, most=1),
            "msda": msdas.get(self.msda),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        augmentations.get(self.augmentation)  # raises what is wrong
        if self.already_repeated and self.repetitions == 1:
            raise ValueError("`already_repeated` says that images come several times: it needs batch_repetitions > 1.")

    @functools.cached_property
    def augment(self) -> keras.layers.Layer | None:
        """The layer of `augmentation`, which may be a name."""
        return augmentations.get(self.augmentation)

    @property
    def tiles(self) -> int:
        """How often the step itself repeats what it is given."""
        return 1 if self.already_repeated else self.repetitions

    def get_config(self) -> dict:
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return config | {name: keras.saving.serialize_keras_object(config[name]) for name in _OBJECTS}

    @classmethod
    def from_config(cls, config: dict) -> "Batching":
        return cls(**config | {name: keras.saving.deserialize_keras_object(config[name]) for name in _OBJECTS})


class Draw(NamedTuple):
    """All that is random in what a step shows: B = n·b rows, M members. (Stochastic depth draws in the network itself.)"""

    row_of_each_member: Any  # (B, M) integers: whose image member m of a row sees, a permutation of the rows for each m
    augmentation: Any  #        what `augmentation.draw` gave for B rows; None without augmentation
    masks: Any  #               (B, M, h, w, 1 or c), summing to one over the members; None where members are summed
    partners: Any  #            (B, M) integers: the row whose image is mixed into member m's, under MSDA; else None
    pixel_masks: Any  #         (B, M, H, W, 1), 1 where the member's own image shows, under MSDA; else None


class Batch(NamedTuple):
    """The rows of one training step. B = n·b rows (twice as many in co-training), M members, K classes."""

    images: Any  #        (B, M, H, W, C), augmented, under MSDA mixed with their partners
    labels: Any  #        (B, M) integers or (B, M, K), as they were passed: what metrics see
    targets: Any  #       the labels, or under MSDA soft ones (B, M, K): what the loss sees
    sample_weight: Any  # (B, M), or None
    masks: Any  #         (B, M, h, w, 1 or c), or None
    loss_weights: Any  #  (B, M), of the members' losses

    def twice(self) -> "Batch":
        """All rows, and all again: what two random submodels of one network see (cosub)."""
        return Batch(*(None if part is None else ops.concatenate([part, part], axis=0) for part in self))


def draw(
    batching: Batching, seed: seeds.StepSeed, num_images, num_members: int, image_shape, feature_shape, progress=0.0
) -> Draw:
    """Draws what is random in a step.

    Args:
        batching: the settings.
        seed: the step's seeds, from which every draw follows.
        num_images: images of the batch as it comes; may be a tensor.
        num_members: M.
        image_shape: (H, W, C).
        feature_shape: (h, w, c) of an encoder's output.
        progress: share of training done.
    """
    num_rows = num_images * batching.tiles
    augmentation = augmentations.draw(batching.augment, seed.fork("augment"), num_rows)
    rows = row_of_each_member(seed.fork("pair"), num_rows, num_members, batching.input_repetition)
    masks = partners = pixel_masks = None
    if batching.mixing is not None:
        masks = draw_masks(batching.mixing, seed, num_rows, num_members, feature_shape, progress)
    if isinstance(batching.msda, MSDA):
        num_distinct = num_rows // batching.repetitions
        partners, pixel_masks = msdas.draw(batching.msda, seed.fork("msda"), rows, num_distinct, image_shape)
    return Draw(rows, augmentation, masks, partners, pixel_masks)


def assemble(batching: Batching, images, labels, sample_weight, drawn: Draw, num_classes: int) -> Batch:
    """Repeats, augments, pairs and mixes a batch of n images into B = n·b rows as drawn. Nothing here is random.

    Args:
        batching: the settings.
        images: (n, H, W, C).
        labels: (n,) integers or (n, K).
        sample_weight: (n,), or `None`.
        drawn: of `draw`, or a test's own.
        num_classes: K.
    """

    def repeat(values):
        return ops.tile(values, (batching.tiles, *[1] * (len(values.shape) - 1)))

    rows = augmentations.apply(batching.augment, repeat(images), drawn.augmentation)
    labels = repeat(labels)
    member_images = ops.take(rows, drawn.row_of_each_member, axis=0)
    targets = member_labels = ops.take(labels, drawn.row_of_each_member, axis=0)
    if sample_weight is not None:
        sample_weight = ops.take(repeat(ops.reshape(sample_weight, (-1,))), drawn.row_of_each_member, axis=0)
    weights = ops.ones(ops.shape(drawn.row_of_each_member))
    if batching.mixing is not None:
        weights = loss_weights(visible_ratios(drawn.masks), batching.mixing.weight_root)
    if batching.msda is not None:
        partner_images, partner_labels = (ops.take(values, drawn.partners, axis=0) for values in (rows, labels))
        member_images = msdas.blend(member_images, partner_images, drawn.pixel_masks)
        shares = msdas.visible_shares(drawn.pixel_masks, drawn.masks)
        targets = msdas.soft_targets(member_labels, partner_labels, shares, num_classes)
    return Batch(member_images, member_labels, targets, sample_weight, drawn.masks, weights)
