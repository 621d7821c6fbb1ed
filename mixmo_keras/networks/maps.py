"""The maps of a network at several depths, which a decoder of pixels takes: found in its graph, whatever network it is."""

import keras
import numpy as np
from keras import layers

from mixmo_keras import keras_internals
from mixmo_keras.networks import graphs

MOST = 4  # maps


def with_maps(core: keras.Model, most: int = MOST) -> keras.Model:
    """Returns a core that ends in its maps [(B, h, w, c), ...], the finest first, in place of a vector (B, F).

    Of each size it is the last map through which everything passes, such as the end of a group of residual blocks. Tokens
    (B, h·w, c), or with a class token before them, count as the map (B, h, w, c) of the last size that was seen. Where all
    are of one size, as in a vision transformer, they are taken at evenly spaced depths. Layers behind the last map are
    left out. The core's own layers are used, not copied.

    Args:
        core: From features (B, h, w, c), such as the core of a `Backbone`.
        most: The most maps to take: the coarsest sizes, or the number of depths where there is one size.

    Raises:
        ValueError: nothing but the core's input is such a map.
    """
    if any(graphs.has_graph(operation) for operation in graphs.operations(core)):
        core = graphs.flat(core)
    by_size: dict[tuple[int, int], list] = {}
    for tensor, size in _trunk(core):
        by_size.setdefault(size, []).append(tensor)
    if len(by_size) > 1:
        by_size.pop((1, 1), None)  # of pooling
    tensors = [found[-1] for _, found in sorted(by_size.items(), key=lambda pair: -np.prod(pair[0]))][-most:]
    if len(by_size) == 1:
        (found,) = by_size.values()
        found = found[1:]  # without the input
        count = min(most, len(found))
        tensors = [found[(number + 1) * len(found) // count - 1] for number in range(count)]
    if not tensors:
        raise ValueError(
            f"{core.name} has no map (B, h, w, c) through which everything passes, behind its input {core.input_shape}: a "
            "decoder of pixels has nothing to begin with. Use another backbone, or split it earlier: `split_at`."
        )
    size_of = {id(tensor): size for size, found in by_size.items() for tensor in found}
    maps = [_as_map(tensor, size_of[id(tensor)], f"map{number}") for number, tensor in enumerate(tensors)]
    return keras.Model(core.inputs[0], maps, name=core.name)


def _trunk(core: keras.Model) -> list[tuple[keras.KerasTensor, tuple[int, int]]]:
    """The maps and tokens through which everything passes, in order, each with its size (h, w)."""
    nodes = keras_internals.nodes(core)
    uses: dict[int, int] = {}
    for tensor in [*core.outputs, *(tensor for node in nodes for tensor in node.input_tensors)]:
        uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    waiting: dict[int, int] = {}  # tensors that something to come still takes, and how often
    found, size = [], None
    for node in nodes:
        for tensor in node.input_tensors:
            waiting[id(tensor)] -= 1
            if not waiting[id(tensor)]:
                del waiting[id(tensor)]
        waiting |= {id(tensor): uses[id(tensor)] for tensor in node.outputs if id(tensor) in uses}
        for tensor in node.outputs:
            shape = tuple(getattr(tensor, "shape", ()))
            if len(shape) == 4 and None not in shape[1:]:
                size = shape[1:3]
            is_tokens = size is not None and len(shape) == 3 and shape[1] in (size[0] * size[1], size[0] * size[1] + 1)
            padded = isinstance(node.operation, layers.ZeroPadding2D)  # for a convolution: no size of its own
            if (len(shape) == 4 or is_tokens) and not padded and size is not None and waiting.keys() == {id(tensor)}:
                found.append((tensor, size))
    return found


def _as_map(tensor: keras.KerasTensor, size: tuple[int, int], name: str) -> keras.KerasTensor:
    """A map as it is; tokens as a map, without a class token."""
    if len(tensor.shape) == 4:
        return tensor
    if tensor.shape[1] > size[0] * size[1]:
        tensor = layers.Cropping1D((1, 0), name=f"{name}_places")(tensor)
    return layers.Reshape((*size, tensor.shape[-1]), name=name)(tensor)
