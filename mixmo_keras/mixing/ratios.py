"""Mixing ratios κ: drawn from a Dirichlet distribution, and turned into the weights of the members' losses."""

import functools

import numpy as np
from keras import ops
from scipy import stats


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
    normal = seed.normal((num_rows, num_members))
    uniform = seed.uniform((num_rows, num_members))
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
