"""Mixing sample data augmentation inside a member's image: CutMix and MixUp, as MixMo combines them with itself.

Each member's image may be mixed with a partner image before it is encoded, and its label becomes soft. Under a MixMo mask
the label's shares follow the area that is still *visible*: a partner's patch that the mask hides counts for nothing
(MixMo, section 4.1 and its reference implementation).
"""

import dataclasses

import keras
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.common.arguments import choice, number
from mixmo_keras.common.settings import Settings, one_of, setting
from mixmo_keras.mixing import masks
from mixmo_keras.mixing.ratios import sample_ratios

METHODS = {"cutmix": masks.cutmix, "mixup": masks.linear}
ALTERNATING = "mixup_or_cutmix"
MIXUP_ALPHA = 0.8  # α of MixUp where it alternates with CutMix, as in DeiT's recipe


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class MSDA(Settings):
    """Which mixing, how often and how much.

    Args:
        method: `"cutmix"` (Yun et al., ICCV 2019), `"mixup"` (Zhang et al., ICLR 2018), or `"mixup_or_cutmix"`: one of
            the two in each step, either as likely, with one share and one box for all rows of the step, as DeiT's code has
            it.
        probability: Of mixing, for each row and member on its own.
        alpha: α of the Beta(α, α) distribution of the shares; of CutMix alone where the two alternate.
    """

    method: str = one_of((*METHODS, ALTERNATING), "cutmix", "mixing inside each member's image")
    probability: float = setting(
        0.5, "probability of MSDA for each image", number, above=0, most=1, otherwise="; `msda=None` turns MSDA off"
    )
    alpha: float = setting(1.0, "α of MSDA's Beta distribution", number, above=0)


def get(msda: MSDA | str | None) -> MSDA | None:
    """The `MSDA` of a method's name with the paper's settings; an `MSDA` or `None` is returned as it is."""
    if msda is None or isinstance(msda, MSDA):
        return msda
    return MSDA(choice("msda", msda, (*METHODS, ALTERNATING), ", a mixmo_keras.MSDA or None"))


def draw_pixel_masks(msda: MSDA, seed: seeds.StepSeed, num_rows, num_members: int, size):
    """Draws which pixels of a member's image are kept: (B, M, H, W, 1), 1 where the own image shows, 0 where its partner.

    CutMix keeps a box of area λ, clipped at the borders; MixUp blends with the constant λ; λ ~ Beta(α, α). Rows that are not
    mixed, 1 − `probability` of them for each member, keep everything. Which of the two images is the larger part is settled
    by `larger_part_to_own`. Where the two alternate, all rows of a step have one mask.

    Args:
        msda: The choice.
        seed: The step's seeds.
        num_rows: B, may be a tensor.
        num_members: M.
        size: (H, W, C) of the images.
    """
    count = num_rows * num_members
    if msda.method == ALTERNATING:
        kept = ops.broadcast_to(_of_step(msda, seed, size), (count, *size[:2], 1))
    else:
        areas = sample_ratios(seed.fork("shares"), count, 2, msda.alpha)[:, 0]
        kept = METHODS[msda.method](seed.fork("mask"), areas, size)
    mixed = seed.fork("mixed").uniform((count,)) < msda.probability
    kept = ops.where(mixed[:, None, None, None], kept, ops.ones_like(kept))
    return ops.reshape(kept, (num_rows, num_members, *kept.shape[1:]))


def _of_step(msda: MSDA, seed: seeds.StepSeed, size):
    """The one mask of a step by MixUp or by CutMix, (1, H, W, 1): the partner has the box, clipped at the borders."""
    of_mixup = sample_ratios(seed.fork("mixup"), 1, 2, MIXUP_ALPHA)[:, 0]
    of_partner = sample_ratios(seed.fork("shares"), 1, 2, msda.alpha)[:, 0]
    box = masks.cutmix(seed.fork("mask"), of_partner, size)
    return ops.where(seed.fork("method").uniform(()) < 0.5, masks.linear(seed, of_mixup, size), 1 - box)


def draw_partners(seed: seeds.StepSeed, row_of_each_member, num_images):
    """Draws the rows whose images are mixed in, from the batch itself: integers (B, M).

    A partner is a copy of another image than the member's own, where the batch holds another one. With few images a step the
    partners are those that members are paired with too; `datasets.batches(..., partners=...)` delivers others.

    Args:
        seed: The step's seeds.
        row_of_each_member: (B, M), the row that each member shows; row r is a copy of image r mod n.
        num_images: n, distinct images of the batch.
    """
    row_of_each_member = ops.cast(row_of_each_member, "int32")
    num_rows = ops.shape(row_of_each_member)[0]

    def below(limit, label):  # integers (B, M) in [0, limit)
        uniform = seed.fork(label).uniform(ops.shape(row_of_each_member))
        limit = ops.cast(limit, "int32")
        return ops.minimum(ops.cast(uniform * ops.cast(limit, uniform.dtype), "int32"), limit - 1)

    num_images = ops.cast(num_images, "int32")
    num_others = ops.maximum(num_images - 1, 1)
    image = (ops.mod(row_of_each_member, num_images) + 1 + below(num_others, "image")) % num_images
    return image + num_images * below(ops.floor_divide(num_rows, num_images), "copy")


def larger_part_to_own(pixel_masks, mixing_masks=None):
    """Gives every member's own image the part of its mixed image of which more is visible under MixMo's mask.

    The two images swap places where the own one would show less than half (MixMo's reference implementation). So the own
    image may lie inside the box of CutMix or outside of it.

    Args:
        pixel_masks: (B, M, H, W, 1), of `draw_pixel_masks`.
        mixing_masks: (B, M, h, w, 1 or c), MixMo's masks; `None` where members are summed.

    Returns:
        Pixel masks of the own images (B, M, H, W, 1).
    """
    swapped = visible_shares(pixel_masks, mixing_masks) < 0.5
    return ops.where(swapped[..., None, None, None], 1 - pixel_masks, pixel_masks)


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
