"""Mixing sample data augmentation inside a member's image: CutMix and MixUp, as MixMo combines them with itself.

Each member's image may be mixed with a partner image before it is encoded, and its label becomes soft. Under a MixMo mask
the label's shares follow the area that is still *visible*: a partner's patch that the mask hides counts for nothing
(MixMo, section 4.1 and its reference implementation).
"""

import dataclasses
from typing import Any, NamedTuple

import keras
from keras import ops

from mixmo_keras import arguments, seeds
from mixmo_keras.mixing import masks
from mixmo_keras.mixing.ratios import sample_ratios

METHODS = {"cutmix": masks.cutmix, "mixup": masks.linear}


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class MSDA:
    """Which mixing, how often and how much.

    Args:
        method: `"cutmix"` (Yun et al., ICCV 2019) or `"mixup"` (Zhang et al., ICLR 2018).
        probability: of mixing, for each row and member on its own.
        alpha: α of the Beta(α, α) distribution of the shares.
    """

    method: str = "cutmix"
    probability: float = 0.5
    alpha: float = 1.0

    def __post_init__(self):
        arguments.choice("method", self.method, METHODS)
        arguments.number("probability", self.probability, above=0, most=1, otherwise="; `msda=None` turns MSDA off")
        arguments.number("alpha", self.alpha, above=0)

    def get_config(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "MSDA":
        return cls(**config)


def get(msda: MSDA | str | None) -> MSDA | None:
    """The `MSDA` of a method's name with the paper's settings; an `MSDA` or `None` is returned as it is."""
    if msda is None or isinstance(msda, MSDA):
        return msda
    return MSDA(arguments.choice("msda", msda, METHODS, ", a mixmo_keras.MSDA or None"))


class MSDADraw(NamedTuple):
    """What is drawn for B rows of M members."""

    partners: Any  #    (B, M), the row that each member's image is mixed with
    pixel_masks: Any  # (B, M, H, W, 1), 1 where the member's own image shows


def draw(msda: MSDA, seed: seeds.StepSeed, row_of_each_member, num_images, size) -> MSDADraw:
    """Draws partners and pixel masks.

    The own image stays the larger part. The partner is a copy of another image than the row's own, where the batch holds
    another one.

    Args:
        msda: the choice.
        seed: the step's seeds.
        row_of_each_member: (B, M), the row that each member shows; row r is a copy of image r mod n.
        num_images: n, distinct images of the batch.
        size: (H, W, C) of the images.
    """
    row_of_each_member = ops.cast(row_of_each_member, "int32")
    num_rows, num_members = ops.shape(row_of_each_member)[0], row_of_each_member.shape[1]
    count = num_rows * num_members
    own_shares = ops.max(sample_ratios(seed.fork("shares"), count, 2, msda.alpha), axis=1)
    mixed = seed.fork("mixed").uniform((count,)) < msda.probability
    # the mask method draws the partner's part: CutMix's box is the smaller part, clipped at borders or not
    own_masks = 1 - METHODS[msda.method](seed.fork("mask"), 1 - own_shares, size)
    own_masks = ops.where(mixed[:, None, None, None], own_masks, ops.ones_like(own_masks))

    def below(limit, label):  # integers (B, M) in [0, limit)
        uniform = seed.fork(label).uniform(ops.shape(row_of_each_member))
        limit = ops.cast(limit, "int32")
        return ops.minimum(ops.cast(uniform * ops.cast(limit, uniform.dtype), "int32"), limit - 1)

    num_images = ops.cast(num_images, "int32")
    num_others = ops.maximum(num_images - 1, 1)
    image = (ops.mod(row_of_each_member, num_images) + 1 + below(num_others, "image")) % num_images
    partners = image + num_images * below(ops.floor_divide(num_rows, num_images), "copy")
    return MSDADraw(partners, ops.reshape(own_masks, (num_rows, num_members, *own_masks.shape[1:])))


def blend(images, partners, masks):
    """The members' images with their partners' parts: all (B, M, H, W, C), masks (B, M, H, W, 1), dtype of `images`."""
    mixed = ops.cast(images, masks.dtype) * masks + ops.cast(partners, masks.dtype) * (1 - masks)
    if keras.backend.is_int_dtype(images.dtype):
        mixed = ops.round(mixed)
    return ops.cast(mixed, images.dtype)


def visible_shares(pixel_masks, mixing_masks=None):
    """The share of each member's own image in what is visible of it: (B, M) in [0, 1].

    share = mean(pixel mask ⊙ mixing mask) / mean(mixing mask), the pixel mask average-pooled to the encoder's output size
    when the encoder downsamples. Where a member is not visible at all, the share of its whole image.

    Args:
        pixel_masks: (B, M, H, W, 1), 1 where the own image shows.
        mixing_masks: (B, M, h, w, 1 or c), MixMo's masks; `None` where members are summed.
    """
    whole = ops.mean(pixel_masks, axis=(2, 3, 4))
    if mixing_masks is None:
        return whole
    height, width = mixing_masks.shape[2:4]
    pooled = _pool(pixel_masks, height, width)
    visible = ops.mean(mixing_masks, axis=(2, 3, 4))
    shares = ops.mean(pooled * mixing_masks, axis=(2, 3, 4)) / ops.maximum(visible, 1e-12)
    return ops.where(visible > 0, shares, whole)


def _pool(masks, height: int, width: int):
    """Average-pools (B, M, H, W, 1) to (B, M, height, width, 1)."""
    members, rows, columns = masks.shape[1:4]
    if (rows, columns) == (height, width):
        return masks
    check_sizes((rows, columns), (height, width))
    masks = ops.reshape(masks, (-1, members, height, rows // height, width, columns // width))
    return ops.mean(masks, axis=(3, 5))[..., None]


def check_sizes(image_size: tuple[int, int], feature_size: tuple[int, int]) -> None:
    """Raises where no whole number of an image's pixels lies under each position of the encoder's output."""
    if any(pixels % positions for pixels, positions in zip(image_size, feature_size, strict=True)):
        raise ValueError(
            f"MSDA's labels follow the visible area, so the encoder's output {tuple(feature_size)} must divide the images' "
            f"size {tuple(image_size)}."
        )


def soft_targets(labels, partner_labels, shares, num_classes: int):
    """share·label + (1 − share)·partner's label, (B, M, K).

    Args:
        labels, partner_labels: (B, M) integers or (B, M, K).
        shares: (B, M), of `labels`.
        num_classes: K.
    """

    def distribution(labels):
        if len(labels.shape) == 2:
            return ops.one_hot(ops.cast(labels, "int32"), num_classes, dtype=shares.dtype)
        return ops.cast(labels, shares.dtype)

    return shares[..., None] * distribution(labels) + (1 - shares[..., None]) * distribution(partner_labels)
