"""What a step shows to whom, as data: `draw` decides all that is random, `assemble` makes the rows of a step by it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.common.arguments import boolean, instance, integer, number
from mixmo_keras.common.settings import Settings, setting
from mixmo_keras.mixing import augmentation as augmentations
from mixmo_keras.mixing import msda as msdas
from mixmo_keras.mixing.mixing import Mixing, draw_masks, visible_ratios
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.mixing.pairing import row_of_each_member
from mixmo_keras.mixing.ratios import loss_weights


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Batching(Settings):
    """What a training step shows to whom.

    Args:
        repetitions: b, how often a step uses each image of a batch: n images make n·b rows, each with its own augmentation
            and partners.
        already_repeated: Whether the batches come repeated, all images and then all again, b times, as
            `datasets.batches(..., repetitions=b)` makes them to augment each copy on the CPU.
        augmentation: a layer `(images, seed) -> images` that augments each image on its own. `"pad_crop_flip"` is CIFAR's
            (`augmentation.PadCropFlip()`); `keras.layers.RandAugment()`, most others of Keras' and a `keras.Sequential`
            of them draw from the step's seeds; `None` for none.
        shared_augmentation: Whether the b copies of an image are augmented alike, as in MIMO's code. Otherwise every copy is
            augmented on its own; for each member that sees it where ρ is 0 from the first step.
        mixing: How members are mixed. `None` sums their features and weighs them equally (MIMO).
        input_repetition: ρ in [0, 1], the share of rows that show the same image to all members (MIMO, section 4.2).
        repetition_decay: Share of training in which ρ falls linearly from 1 to `input_repetition`, so that members begin as
            one network. Defaults to 0: ρ is the same from the first step. Training is what `fit` is told to be: a second
            `fit` begins at 1 again, outside of `fit` ρ is `input_repetition`, and a first epoch of unknown length is at 1
            throughout.
        msda: CutMix or MixUp inside each member's image: `"cutmix"`, `"mixup"`, an `MSDA`, or `None` for none.
    """

    repetitions: int = setting(4, "b, times that a step uses each image", integer, keyword="batch_repetitions", least=1)
    already_repeated: bool = setting(False, "the batches come repeated already", boolean)
    augmentation: keras.layers.Layer | str | None = "pad_crop_flip"
    shared_augmentation: bool = setting(
        False, "augmentation: the same for all copies of an image in a step, as in MIMO's code", boolean
    )
    mixing: Mixing | None = Mixing()
    input_repetition: float = setting(
        0.0,
        "ρ, share of rows with the same image for all members",
        number,
        least=0,
        most=1,
    )
    repetition_decay: float = setting(
        0.0,
        "share of training in which ρ falls from 1 to its value: members begin as one network",
        number,
        least=0,
        most=1,
    )
    msda: MSDA | str | None = None

    def __post_init__(self):
        super().__post_init__()
        instance("mixing", self.mixing, (Mixing, type(None)), "a mixmo_keras.Mixing or None")
        object.__setattr__(self, "msda", msdas.get(self.msda))
        augmentations.get(self.augmentation)  # raises what is wrong
        if self.already_repeated and self.repetitions == 1:
            raise ValueError("`already_repeated` says that images come several times: it needs batch_repetitions > 1.")
        if self.repetition_decay and self.input_repetition == 1:
            raise ValueError("`repetition_decay` has no meaning with input_repetition=1: from 1 to 1 nothing falls.")
        if self.shared_augmentation and (self.already_repeated or self.augmentation is None):
            raise ValueError(
                "`shared_augmentation` says how the model augments copies that it makes itself: it needs an `augmentation`, "
                "and already_repeated=False."
            )

    @functools.cached_property
    def augment(self) -> Callable | None:
        """What augments: the layer of `augmentation`, which may be a name, or what drives a layer of Keras'."""
        return augmentations.get(self.augmentation)

    @property
    def repeats_inputs(self) -> bool:
        """Whether some rows show the same image to all members, be it at the beginning of training alone."""
        return bool(self.input_repetition or self.repetition_decay)

    def repetition_at(self, progress) -> Any:
        """ρ at `progress` ∈ [0, 1] of training, which is -1 before any `fit`."""
        if not self.repetition_decay:
            return self.input_repetition
        progress = ops.convert_to_tensor(progress, "float32")
        remaining = ops.clip(1 - progress / self.repetition_decay, 0.0, 1.0)
        remaining = ops.where(progress < 0, 0.0, remaining)
        return self.input_repetition + (1 - self.input_repetition) * remaining

    @property
    def tiles(self) -> int:
        """How often the step itself repeats what it is given."""
        return 1 if self.already_repeated else self.repetitions

    @property
    def copies(self) -> int:
        """How often every image is in a batch as it comes."""
        return self.repetitions if self.already_repeated else 1


class StepData(NamedTuple):
    """A batch of n images as a dataset gives it."""

    images: Any  #          (n, H, W, C)
    labels: Any  #          targets of any task, (n, ...): of classes integers (n,) or (n, 1), or shares (n, K)
    sample_weight: Any  #   (n,), or None
    partner_images: Any  #  (n, b·M, H, W, C), for MSDA, from the whole of the training data; or None
    partner_labels: Any  #  (n, b·M, ...), or None


def unpack(data) -> StepData:
    """The parts of what a dataset gives: (images, labels), (images, labels, weights), or with partners of MSDA a dictionary
    `{"images", "partner_images", "partner_labels"}` in place of the images, as `datasets.batches(..., partners=...)` has it.
    """
    images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(images, dict):
        return StepData(images["images"], labels, sample_weight, images["partner_images"], images["partner_labels"])
    return StepData(images, labels, sample_weight, None, None)


def in_common_types(data: StepData) -> StepData:
    """The batch with uint16 images, such as a camera's, and longer ones as int32: TensorFlow can't tile them."""

    def common(images):
        if images is None or keras.backend.standardize_dtype(images.dtype) not in ("uint16", "uint32", "uint64"):
            return images
        return ops.cast(images, "int32")

    return data._replace(images=common(data.images), partner_images=common(data.partner_images))


def in_one_form(data: StepData, task) -> StepData:
    """The batch with targets in the form in which a task computes with them; partners' too, where these are maps."""
    partners = data.partner_labels
    if task.are_maps and partners is not None:  # (n, b·M, H, W), or with an axis of one channel
        height, width = data.images.shape[1:3]
        partners = ops.cast(ops.reshape(partners, (-1, partners.shape[1], height, width)), "int32")
    return data._replace(labels=task.canonical(data.labels), partner_labels=partners)


def check_partners(batching: Batching, data: StepData, num_members: int) -> None:
    """Checks that partner images come only with MSDA, and as many as it needs.

    Raises:
        ValueError: partners without MSDA, or another number of them.
    """
    if data.partner_images is None:
        return
    if batching.msda is None:
        raise ValueError("The data bring partners, which are for `msda`: set it, or leave `partners` out of the data.")
    expected = (batching.tiles * num_members, *data.images.shape[1:])
    if tuple(data.partner_images.shape[1:]) != expected:
        raise ValueError(
            f"Each image must bring {expected[0]} partners, one for each copy and member, of its own shape: (n, "
            f"{', '.join(map(str, expected))}); got {tuple(data.partner_images.shape)}."
        )


class Draw(NamedTuple):
    """All that is random in what a step shows: B = n·b rows, M members. (Stochastic depth draws in the network itself.)

    Attributes:
        row_of_each_member: (B, M) integers, whose image member m of a row sees: a permutation of the rows for each m.
        augmentation: What `augmentation.draw` gave for the images it is drawn for; `None` without augmentation.
        masks: (B, M, h, w, 1 or c), summing to one over the members; `None` where members are summed.
        pixel_masks: (B, M, H, W, 1), the part of a member's image that is kept, under MSDA; else `None`.
        partners: (B, M) integers, whose image is mixed in; `None` without MSDA, or where data bring partners.
        partner_augmentation: Of B·M partners; `None` without MSDA or augmentation.
    """

    row_of_each_member: Any
    augmentation: Any
    masks: Any
    pixel_masks: Any
    partners: Any
    partner_augmentation: Any


class Batch(NamedTuple):
    """The rows of one training step. B = n·b rows (twice as many in co-training), M members."""

    images: Any  #        (B, M, H, W, C), augmented, under MSDA mixed with their partners
    labels: Any  #        (B, M, ...), as they were passed: what metrics see
    targets: Any  #       the same, or under MSDA mixed ones (B, M, ...): what the loss sees
    sample_weight: Any  # (B, M), or None
    masks: Any  #         (B, M, h, w, 1 or c), or None
    loss_weights: Any  #  (B, M), of the members' losses

    def twice(self) -> "Batch":
        """All rows, and all again: what two random submodels of one network see (cosub)."""
        return Batch(*(None if part is None else ops.concatenate([part, part], axis=0) for part in self))


def draw(
    batching: Batching,
    seed: seeds.StepSeed,
    num_images,
    num_members: int,
    image_shape,
    feature_shape,
    progress=0.0,
    with_partners: bool = False,
) -> Draw:
    """Draws what is random in a step.

    Args:
        batching: The settings.
        seed: The step's seeds, from which every draw follows.
        num_images: Images of the batch as it comes; may be a tensor.
        num_members: M.
        image_shape: (H, W, C).
        feature_shape: (h, w, c) of an encoder's output.
        progress: Share of training done.
        with_partners: Whether the data bring the partners of MSDA.
    """
    num_rows = num_images * batching.tiles
    num_augmented = {"images": num_images, "rows": num_rows, "members": num_rows * num_members}[_augmented(batching)]
    augmentation = augmentations.draw(batching.augment, seed.fork("augment"), num_augmented)
    repetition = batching.repetition_at(progress) if batching.repeats_inputs else None
    rows = row_of_each_member(seed.fork("pair"), num_rows, num_members, repetition)
    masks = pixel_masks = partners = partner_augmentation = None
    if batching.mixing is not None:
        masks = draw_masks(batching.mixing, seed, num_rows, num_members, feature_shape, progress)
    if isinstance(batching.msda, MSDA):
        of_msda = seed.fork("msda")
        pixel_masks = msdas.draw_pixel_masks(batching.msda, of_msda, num_rows, num_members, image_shape)
        if not with_partners:
            partners = msdas.draw_partners(of_msda, rows, num_rows // batching.repetitions)
        num_partners = num_rows * num_members
        partner_augmentation = augmentations.draw(batching.augment, of_msda.fork("augment"), num_partners)
    return Draw(rows, augmentation, masks, pixel_masks, partners, partner_augmentation)


def _augmented(batching: Batching) -> str:
    """What is augmented on its own: the images of the batch, their copies ("rows"), or what each member sees of a row."""
    if batching.shared_augmentation:
        return "images"
    # members that are shown the same image are shown the same pixels, as in MIMO
    return "rows" if batching.repeats_inputs else "members"


def assemble(batching: Batching, data: StepData, drawn: Draw, task) -> Batch:
    """Repeats, pairs, augments and mixes a batch of n images into B = n·b rows as drawn. Nothing here is random.

    Args:
        batching: The settings.
        data: The batch.
        drawn: Of `draw`, or a test's own.
        task: What the targets are of: it says what the loss sees of them (`seen`), and whether they are maps, which move
            with the images (`are_maps`).
    """
    rows_of_members = drawn.row_of_each_member
    images, labels = _shown_to_members(batching, data, drawn, task)
    sample_weight = data.sample_weight
    if sample_weight is not None:
        sample_weight = ops.cast(ops.reshape(sample_weight, (-1,)), "float32")  # NumPy's are float64
        sample_weight = ops.take(_repeat(sample_weight, batching), rows_of_members, axis=0)
    weights = ops.ones(ops.shape(rows_of_members))
    if batching.mixing is not None:
        weights = loss_weights(visible_ratios(drawn.masks), batching.mixing.weight_root)
    partner_labels, pixel_masks = None, drawn.pixel_masks
    if batching.msda is not None:
        partner_images, partner_labels = _partners(batching, data, drawn, task)
        if images.shape[1] > 1:
            pixel_masks = msdas.larger_part_to_own(pixel_masks, drawn.masks)
        # a single network keeps the box that CutMix drew, which may be the smaller part (Yun et al., 2019)
        images = msdas.blend(images, partner_images, pixel_masks)
    targets = task.seen(labels, partner_labels, pixel_masks, drawn.masks)
    return Batch(images, labels, targets, sample_weight, drawn.masks, weights)


def _shown_to_members(batching: Batching, data: StepData, drawn: Draw, task):
    """What each member sees of its row, augmented, (B, M, H, W, C), and its target (B, M, ...)."""
    augmented = _augmented(batching)
    images, labels = data.images, data.labels
    if augmented == "images":
        images, labels = _augment(batching, images, labels, drawn.augmentation, task)
    images, labels = (_repeat(values, batching) for values in (images, labels))
    if augmented == "rows":
        images, labels = _augment(batching, images, labels, drawn.augmentation, task)
    images, labels = (ops.take(values, drawn.row_of_each_member, axis=0) for values in (images, labels))
    return _augment(batching, images, labels, drawn.augmentation, task) if augmented == "members" else (images, labels)


def _partners(batching: Batching, data: StepData, drawn: Draw, task):
    """The images that MSDA mixes in (B, M, H, W, C), augmented on their own, and their targets (B, M, ...)."""
    if drawn.partners is not None:
        rows = (_repeat(data.images, batching), _repeat(data.labels, batching))
        images, labels = (ops.take(values, drawn.partners, axis=0) for values in rows)
    else:
        images, labels = (
            _to_rows(values, batching.tiles, drawn.row_of_each_member.shape[1])
            for values in (data.partner_images, data.partner_labels)
        )
    return _augment(batching, images, labels, drawn.partner_augmentation, task)


def _to_rows(values, tiles: int, num_members: int):
    """Partners of each image (n, b·M, ...) as those of each row and member (n·b, M, ...); row r copies image r mod n."""
    values = ops.reshape(values, (-1, tiles, num_members, *values.shape[2:]))
    values = ops.swapaxes(values, 0, 1)
    return ops.reshape(values, (-1, num_members, *values.shape[3:]))


def _repeat(values, batching: Batching):
    """All n and all again: row r is a copy of image r mod n."""
    return ops.tile(values, (batching.tiles, *[1] * (len(values.shape) - 1)))


def _augment(batching: Batching, images, labels, drawn, task):
    """Images (..., H, W, C), each on its own; and labels, which are moved where they are maps (..., H, W)."""
    if batching.augmentation is None:
        return images, labels
    flat = ops.reshape(images, (-1, *images.shape[-3:]))
    if task.are_maps:
        maps = ops.reshape(labels, (-1, *labels.shape[-2:]))
        labels = ops.reshape(
            augmentations.move(batching.augment, maps, flat, drawn, task.border), (-1, *labels.shape[1:])
        )
    return ops.reshape(augmentations.apply(batching.augment, flat, drawn), (-1, *images.shape[1:])), labels
