"""Learned positions of a network for images of another size: trained at one resolution, trained further at another."""

from collections.abc import Mapping

import numpy as np
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.networks.backbones.tokens import PositionEmbedding
from mixmo_keras.networks.backbones.windows import WindowAttention


def interpolated(trained, trained_weights: Mapping, model, weights: Mapping) -> dict[str, np.ndarray]:
    """The positions of a trained model, brought to the shapes of a model for images of another size.

    Vectors of positions lie on the grid of patches, biases of relative positions on the grid of differences within a window.
    Both are interpolated by cubic polynomials, as in DeiT's code.

    Args:
        trained: The trained model.
        trained_weights: Its variables by name.
        model: The model that begins with its weights.
        weights: Its variables, by the same names.

    Returns:
        Values by name, of the weights whose shapes differ and that are positions in both.
    """
    from_grids, to_grids = _grids(trained), _grids(model)
    values = {}
    for name, variable in weights.items():
        before = trained_weights.get(name)
        if before is None or before.shape == variable.shape or before.shape[-1] != variable.shape[-1]:
            continue
        from_grid, to_grid = (grids.get(id(one)) for grids, one in ((from_grids, before), (to_grids, variable)))
        if from_grid and to_grid:
            values[name] = resized(ops.convert_to_numpy(before), from_grid, to_grid).reshape(variable.shape)
    return values


def resized(positions: np.ndarray, from_grid: tuple[int, int], to_grid: tuple[int, int]) -> np.ndarray:
    """Vectors (h·w, c) of a grid's places, row by row, for another grid: (h'·w', c). Bicubic, as PyTorch's."""
    rows, columns = (_cubic_weights(*sides) for sides in zip(from_grid, to_grid, strict=True))
    on_grid = positions.reshape(*from_grid, -1).astype("float64")
    on_grid = np.einsum("ih,jw,hwc->ijc", rows, columns, on_grid, optimize=True)
    return on_grid.reshape(-1, positions.shape[-1]).astype(positions.dtype)


def _cubic_weights(before: int, after: int) -> np.ndarray:
    """How much each place of an axis counts for each of the new ones: (after, before). The border's go on outside."""
    places = (np.arange(after) + 0.5) * before / after - 0.5
    first = np.floor(places).astype(int) - 1
    weights = np.zeros((after, before))
    for neighbour in first + np.arange(4)[:, None]:
        index = np.clip(neighbour, 0, before - 1)
        np.add.at(weights, (np.arange(after), index), _cubic(np.abs(places - neighbour)))
    return weights


def _cubic(distance, a: float = -0.75):
    """Keys' kernel, at distances from 0 to 2."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far)


def _grids(model) -> dict[int, tuple[int, int]]:
    """The (height, width) of the grid that the rows of a weight lie on, by the weight's `id`."""
    grids = {}
    for layer in keras_internals.flatten_layers(model.core):
        if isinstance(layer, PositionEmbedding):
            grids[id(layer.positions)] = tuple(model.core.input_shape[1:3])
        elif isinstance(layer, WindowAttention):
            grids[id(layer.biases)] = tuple(2 * side - 1 for side in layer.window)
    return grids
