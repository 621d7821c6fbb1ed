"""How members are mixed in training: the choice (`Mixing`) and its draw (masks, ratios, loss weights)."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from scipy import stats

from mixmo_keras import seeds
from mixmo_keras.mixing import masks as mask_functions
from mixmo_keras.mixing.masks import MaskFunction


class Draw(NamedTuple):
    """What one training step draws for its rows."""

    masks: Any  #   (B, M, h, w, 1 or c), sums to one over the members
    ratios: Any  #  (B, M), the means of the masks
    weights: Any  # (B, M), of the members' losses


@keras.saving.register_keras_serializable("mixmo_keras")
@dataclasses.dataclass(frozen=True)
class Mixing:
    """How the members' features are mixed, and how their losses are weighted (MixMo, section 3).

    Args:
        mask: the binary mask's name in `masks.MASKS`, or a function like those in `masks`.
        probability: p, the probability that a batch is mixed by `mask`; otherwise it is mixed linearly. Default 0.5. Or a
            function from training progress in [0, 1] to p, which then has no other decay.
        decay_start: the share of training after which p falls linearly to 0. Default 11/12. `None` keeps p constant.
        alpha: α > 0, the concentration of the symmetric Dirichlet distribution of the ratios κ; Beta(α, α) for two
            members. `None` for equal ratios 1/M.
        weight_root: r > 0. The loss of member i weighs w_i = M·κ_i^(1/r) / Σ_j κ_j^(1/r). `None` for equal weights, its
            limit for large r.
        unmixing: moves the masks towards showing all members everywhere as training goes, which gives small networks
            features that members share (Sun et al., 2022, arXiv 2205.10139). `True`: in step with training progress; or a
            function from progress to m in [0, 1], see `unmix`.

    Functions are saved with the model if they are registered with `keras.saving.register_keras_serializable`.
    `probability` and `decay_start` have no meaning for `mask="linear"`: values other than the defaults are refused there.
    """

    mask: str | MaskFunction = "cutmix"
    probability: float | Callable = 0.5
    decay_start: float | None = 11 / 12
    alpha: float | None = 2.0
    weight_root: float | None = 3.0
    unmixing: bool | Callable = False

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
        if callable(self.probability):
            if self.decay_start != 11 / 12:
                raise ValueError(
                    "`decay_start` has no meaning beside a function `probability`: the function says it all."
                )
        elif not 0 <= self.probability <= 1:
            raise ValueError(f"`probability` must be within [0, 1], got {self.probability}.")
        if self.decay_start is not None and not 0 <= self.decay_start < 1:
            raise ValueError(f"`decay_start` must be within [0, 1), or None for no decay, got {self.decay_start}.")
        if not (isinstance(self.unmixing, bool) or callable(self.unmixing)):
            raise TypeError(f"`unmixing` must be True, False or a function of progress, got {self.unmixing!r}.")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"`alpha` must be positive, or None for equal ratios, got {self.alpha}.")
        if self.weight_root is not None and not self.weight_root > 0:
            raise ValueError(f"`weight_root` must be positive, or None for equal weights, got {self.weight_root}.")
        if linear and self.alpha is None and self.weight_root is not None:
            warnings.warn(
                "mask='linear' with equal ratios (alpha=None) weighs all members equally: `weight_root` changes nothing. "
                "Pass weight_root=None.",
                stacklevel=3,
            )

    def get_config(self) -> dict:
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: keras.saving.serialize_keras_object(v) if callable(v) else v for name, v in config.items()}

    @classmethod
    def from_config(cls, config: dict) -> "Mixing":
        functions = {name: v for name, v in config.items() if isinstance(v, dict)}
        return cls(**config | {name: keras.saving.deserialize_keras_object(v) for name, v in functions.items()})

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


def draw(mixing: Mixing, seed: seeds.StepSeed, num_rows, num_members: int, size, progress=0.0) -> Draw:
    """Draws the masks of one batch, their ratios and the losses' weights.

    Per row: the ratios κ and the mask's place. Once for the batch: whether the mask is `mixing.mask` or linear, and which
    member takes which role; the first role is the mask's (MixMo, section 3.2 and its reference implementation).

    Args:
        mixing: the choice.
        seed: the step's seeds.
        num_rows: B, may be a tensor.
        num_members: M ≥ 1.
        size: (height, width, channels) of the encoder's output.
        progress: share of training done, for the decay of p.
    """
    shares = sample_ratios(seed.fork("ratios"), num_rows, num_members, mixing.alpha)
    if num_members == 1:  # nobody to share the map with
        height, width, _ = size
        one = ops.ones((num_rows, 1, height, width, 1))
        return Draw(one, shares, shares)
    mask_function = mask_functions.get(mixing.mask)
    first = mask_functions.linear(seed, shares[:, 0], size)
    if mask_function is not mask_functions.linear:
        binary = mask_function(seed.fork("mask"), shares[:, 0], size)
        use_binary = keras.random.uniform((), seed=seed.fork("binary")) < mixing.mask_probability(progress)
        first = ops.where(use_binary, binary, first)
    masks = share_out(first, shares)
    roles = seeds.permutations(seed.fork("roles"), 1, num_members)[0]
    masks = ops.take(masks, roles, axis=1)
    if mixing.unmixing:
        masks = unmix(masks, mixing.unmixing_rate(progress))
    ratios = ops.mean(masks, axis=(2, 3, 4))  # follow the mask: clipped boxes cover less than they were asked to
    return Draw(masks, ratios, loss_weights(ratios, mixing.weight_root))


def places(seed, num_rows, num_members: int, input_repetition: float = 0.0):
    """Which row's image each member sees: integers (B, M), a permutation of the rows for each member.

    The rows are shuffled once; then each member reshuffles the first 1 − ρ of them on its own, and the rest keeps its place,
    so that a share ρ of the rows shows the same image to all members (MIMO, section 4.2).

    Args:
        seed: of the shuffles.
        num_rows: B, may be a tensor.
        num_members: M.
        input_repetition: ρ.
    """
    common, *own = ops.unstack(seeds.permutations(seed, 1 + num_members, num_rows), 1 + num_members)
    if not input_repetition:
        return ops.stack(own, axis=1)
    place = ops.arange(num_rows)
    moving = ops.cast(ops.round(ops.cast(num_rows, "float32") * (1 - input_repetition)), place.dtype)
    orders = []
    for order in own:
        order = ops.cast(order, place.dtype)
        # sorting by this key shuffles the first rows among themselves and leaves the others where they are
        key = ops.where(place < moving, order - num_rows, place)
        orders.append(ops.take(common, ops.argsort(key)))
    return ops.stack(orders, axis=1)


def share_out(first, shares):
    """Masks of all members from the first one's: the others share the rest of every position in proportion.

    Args:
        first: (B, h, w, 1 or c), the first member's mask.
        shares: (B, M ≥ 2), the members' shares.

    Returns:
        (B, M, h, w, 1 or c), sums to one over the members.
    """
    # the others' shares can all underflow to zero when the first one's is near 1: then they are equal
    others = ops.cast(shares[:, 1:], "float32") + 1e-12
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


def loss_weights(ratios, weight_root: float | None):
    """Weights of the members' losses: w_i = M·κ_i^(1/r) / Σ_j κ_j^(1/r) (MixMo, equation 4).

    Args:
        ratios: κ, (B, M), non-negative, rows sum to 1.
        weight_root: r > 0, or `None` for equal weights.

    Returns:
        (B, M), rows sum to M. The larger ratio gets the larger weight.
    """
    if weight_root is None:
        return ops.ones_like(ratios)
    relative = ratios / ops.max(ratios, axis=1, keepdims=True)  # so that small roots can't make all of them 0
    roots = ops.power(relative, 1 / weight_root)
    return ratios.shape[1] * roots / ops.sum(roots, axis=1, keepdims=True)


def sample_ratios(seed, num_rows, num_members: int, alpha: float | None):
    """Mixing ratios κ ~ Dirichlet(α, …, α), a row each: (B, M), float32. `alpha=None` gives 1/M.

    XLA has no kernel for TensorFlow's gamma sampler; this one is normal draws looked up in a table, on any backend.
    """
    if alpha is None or num_members == 1:
        return ops.full((num_rows, num_members), 1 / num_members, dtype="float32")
    # Gamma(α) = Gamma(α + 1)·U^(1/α): the table is of the former, which is smooth near 0 whatever α
    normal = keras.random.normal((num_rows, num_members), seed=seed, dtype="float32")
    uniform = keras.random.uniform((num_rows, num_members), seed=seed, dtype="float32")
    uniform = ops.maximum(uniform, np.finfo("float32").tiny)
    log_gamma = _lookup(normal, _log_gamma_table(alpha + 1)) + ops.log(uniform) / alpha
    return ops.softmax(log_gamma, axis=-1)


_TABLE_REACH, _TABLE_SIZE = 6.0, 2049  # standard deviations either way, entries


@functools.lru_cache
def _log_gamma_table(shape: float) -> np.ndarray:
    """log F⁻¹(Φ(z)) for z on a grid, F the distribution of Gamma(shape): maps normal draws to log-gamma draws."""
    z = np.linspace(-_TABLE_REACH, _TABLE_REACH, _TABLE_SIZE)
    lower = stats.gamma.ppf(stats.norm.cdf(np.minimum(z, 0)), shape)
    upper = stats.gamma.isf(stats.norm.sf(np.maximum(z, 0)), shape)
    return np.log(np.where(z < 0, lower, upper)).astype("float32")


def _lookup(z, table: np.ndarray):
    """Linear interpolation in a table over [-_TABLE_REACH, _TABLE_REACH]."""
    position = ops.clip((z + _TABLE_REACH) * ((_TABLE_SIZE - 1) / (2 * _TABLE_REACH)), 0.0, _TABLE_SIZE - 1.001)
    index = ops.cast(ops.floor(position), "int32")
    fraction = position - ops.cast(index, position.dtype)
    values = ops.convert_to_tensor(table)
    return (1 - fraction) * ops.take(values, index) + fraction * ops.take(values, index + 1)
