"""How members are mixed in training: the choice (`Mixing`) and the masks drawn by it."""

import dataclasses
import warnings
from collections.abc import Callable

import keras
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.common.arguments import boolean, instance, number
from mixmo_keras.common.settings import Settings, setting
from mixmo_keras.mixing import masks as mask_functions
from mixmo_keras.mixing.masks import MaskFunction
from mixmo_keras.mixing.ratios import sample_ratios


def _number_or_function(name: str, value, **bounds):
    return value if callable(value) else number(name, value, **bounds)


def _switch_or_function(name: str, value):
    return value if callable(value) else instance(name, value, bool, "True, False or a function of progress")


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Mixing(Settings):
    """How the members' features are mixed, and how their losses are weighted (MixMo, section 3).

    Args:
        mask: The binary mask's name in `masks.MASKS`, or a function like those in `masks`.
        probability: p, the probability that a batch is mixed by `mask`; otherwise it is mixed linearly. Default 0.5. Or a
            function from training progress in [0, 1] to p, which then has no other decay.
        decay_start: The share of training after which p falls linearly to 0, step by step, where MixMo's code lowers it by
            epoch. Default 11/12. `None` keeps p constant.
        alpha: α > 0, the concentration of the symmetric Dirichlet distribution of the ratios κ; Beta(α, α) for two
            members. `None` for equal ratios 1/M.
        weight_root: r > 0. The loss of member i weighs w_i = M·κ_i^(1/r) / Σ_j κ_j^(1/r). `None` for equal weights, its
            limit for large r.
        unmixing: Moves the masks towards showing all members everywhere as training goes, which gives small networks
            features that members share (Sun et al., 2022, arXiv 2205.10139). `True`: in step with training progress; or a
            function from progress to m in [0, 1], see `unmix`.
        predominant_first: Whether the first member's input is in each row the one with the largest ratio, the second's the
            next, and so on. With one encoder for all, this tells the heads apart (MixMo, section 4.5).

    Functions are saved with the model if they are registered with `keras.saving.register_keras_serializable`.
    `probability` and `decay_start` have no meaning for `mask="linear"`: values other than the defaults are refused there.
    """

    mask: str | MaskFunction = setting("cutmix", "binary mask: " + ", ".join(mask_functions.BINARY_MASKS))
    probability: float | Callable = setting(
        0.5, "p, probability of the binary mask", _number_or_function, least=0, most=1
    )
    decay_start: float | None = setting(
        11 / 12,
        "share of training after which p falls to 0; none for no decay",
        number,
        least=0,
        below=1,
        otherwise=", or None for no decay",
    )
    alpha: float | None = setting(
        2.0,
        "α, concentration of the mixing ratios; none for equal ratios",
        number,
        above=0,
        otherwise=", or None for equal ratios",
    )
    weight_root: float | None = setting(
        3.0,
        "r, root of the ratios in the loss weights; none for equal weights",
        number,
        above=0,
        otherwise=", or None for equal weights",
    )
    unmixing: bool | Callable = setting(
        False, "move the masks towards showing all members, for small networks", _switch_or_function
    )

    predominant_first: bool = setting(
        False,
        "the first member's input is the one with the largest ratio, which tells heads of one encoder apart",
        boolean,
    )

    def __post_init__(self):
        function = mask_functions.get(self.mask)
        linear = function is mask_functions.linear
        if function in mask_functions.MASKS.values():  # by its name, as which it can be saved
            object.__setattr__(self, "mask", function.__name__)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if linear and field.name in ("probability", "decay_start") and value != field.default:
                raise ValueError(
                    f"`{field.name}` (={value}) chooses between a binary mask and the linear one; it has no meaning for "
                    "mask='linear'."
                )
        super().__post_init__()
        if callable(self.probability) and self.decay_start != Mixing.decay_start:
            raise ValueError("`decay_start` has no meaning beside a function `probability`: the function says it all.")
        if linear and self.alpha is None and self.weight_root is not None:
            warnings.warn(
                "mask='linear' with equal ratios (alpha=None) weighs all members equally: `weight_root` changes nothing. "
                "Pass weight_root=None.",
                stacklevel=3,
            )

    @property
    def is_always_binary(self) -> bool:
        """Whether all rows of a training cut patches, so that none interpolates its members' features."""
        if mask_functions.get(self.mask) is mask_functions.linear or self.unmixing or callable(self.probability):
            return False
        return self.probability == 1 and self.decay_start is None

    def mask_probability(self, progress):
        """p at `progress` ∈ [0, 1] of training: p until `decay_start`, then p·(1 − progress)/(1 − decay_start)."""
        if callable(self.probability):
            return self.probability(ops.clip(ops.convert_to_tensor(progress, "float32"), 0.0, 1.0))
        if self.decay_start is None:
            return self.probability
        remaining = 1 - ops.convert_to_tensor(progress, "float32")
        return self.probability * ops.clip(remaining / (1 - self.decay_start), 0.0, 1.0)

    def unmixing_rate(self, progress):
        """m at `progress` of training."""
        progress = ops.clip(ops.convert_to_tensor(progress, "float32"), 0.0, 1.0)
        rate = self.unmixing(progress) if callable(self.unmixing) else progress
        return ops.clip(ops.convert_to_tensor(rate, "float32"), 0.0, 1.0)


def draw_masks(mixing: Mixing, seed: seeds.StepSeed, num_rows, num_members: int, size, progress=0.0):
    """The masks of one batch: (B, M, h, w, 1 or c), summing to one over the members.

    Per row: the ratios κ and the mask's place. Once for the batch: whether the mask is `mixing.mask` or linear, and which
    member takes which role; the first role is the mask's (MixMo, section 3.2 and its reference implementation).

    Args:
        mixing: The choice.
        seed: The step's seeds.
        num_rows: B, may be a tensor.
        num_members: M ≥ 1.
        size: (height, width, channels) of the encoder's output.
        progress: Share of training done, for the decay of p.
    """
    if num_members == 1:  # nobody to share the map with
        height, width, _ = size
        return ops.ones((num_rows, 1, height, width, 1))
    ratios = sample_ratios(seed.fork("ratios"), num_rows, num_members, mixing.alpha)
    mask_function = mask_functions.get(mixing.mask)
    first = mask_functions.linear(seed, ratios[:, 0], size)
    if mask_function is not mask_functions.linear:
        binary = _checked_mask(mask_function(seed.fork("mask"), ratios[:, 0], size), mask_function, size)
        use_binary = seed.fork("binary").uniform(()) < mixing.mask_probability(progress)
        first = ops.where(use_binary, binary, first)
    masks = share_out(first, ratios)
    roles = seeds.permutations(seed.fork("roles"), 1, num_members)[0]
    masks = ops.take(masks, roles, axis=1)
    if mixing.predominant_first:
        order = ops.argsort(-visible_ratios(masks), axis=1)
        masks = ops.take_along_axis(masks, order[:, :, None, None, None], axis=1)
    return unmix(masks, mixing.unmixing_rate(progress)) if mixing.unmixing else masks


def _checked_mask(mask, function, size):
    """A mask that a function gave for maps of a size (height, width, channels)."""
    height, width, channels = size
    shape = tuple(getattr(mask, "shape", ()))
    if len(shape) != 4 or shape[1:3] != (height, width) or shape[3] not in (1, channels):
        name, returned = getattr(function, "__name__", function), shape if shape else repr(mask)
        raise ValueError(f"A mask must be (B, {height}, {width}, 1 or {channels}); {name} returned {returned}.")
    return mask


def visible_ratios(masks):
    """The mixing ratios κ of masks (B, M, h, w, 1 or c): (B, M). Clipped boxes cover less than they were asked to."""
    return ops.mean(masks, axis=(2, 3, 4))


def share_out(first, ratios):
    """Masks of all members from the first one's: the others share the rest of every position in proportion.

    Args:
        first: (B, h, w, 1 or c), the first member's mask.
        ratios: (B, M ≥ 2), the members' ratios κ.

    Returns:
        (B, M, h, w, 1 or c), sums to one over the members.
    """
    # the others' ratios can all underflow to zero when the first one's is near 1: then they are equal
    others = ops.cast(ratios[:, 1:], "float32") + 1e-12
    others = ops.cast(others / ops.sum(others, axis=1, keepdims=True), first.dtype)
    rest = (1 - first)[:, None] * others[:, :, None, None, None]
    return ops.concatenate([first[:, None], rest], axis=1)


def unmix(masks, rate):
    """Moves masks towards showing every member everywhere: mask + m·(1 − mask), scaled to sum to one over the members.

    With m = 1 all members are summed as at inference, which needs the scale: without it the sum would be M times as large.

    Args:
        masks: (B, M, h, w, 1 or c), sums to one over the members.
        rate: m in [0, 1], a scalar.
    """
    rate = ops.cast(rate, masks.dtype)
    return (masks + rate * (1 - masks)) / (1 + rate * (masks.shape[1] - 1))
