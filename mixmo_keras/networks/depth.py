"""How deep a weight lies in a network: the number of residual branches that end behind it."""

import keras

from mixmo_keras import keras_internals
from mixmo_keras.networks import graphs
from mixmo_keras.networks.stochastic_depth import AddRows


def branches_behind(network: keras.Model) -> dict[int, int]:
    """Returns the number of residual branches that end behind each trained weight, by the weight's `id`.

    A branch ends where its output is added to its shortcut. A weight within a branch counts this end too: only weights
    behind the last end have 0. Of two ways to the end, such as one past a map that a decoder takes, the one
    with more branches counts. Weights of a layer that holds branches itself have the depth of this layer.

    Args:
        network: A network with a graph, such as the core of a `Backbone`.
    """
    behind: dict[int, int] = {}  # tensors
    of_weights: dict[int, int] = {}
    for node in reversed(keras_internals.nodes(graphs.functional(network))):
        after = max(behind.get(id(tensor), 0) for tensor in node.outputs)
        for weight in getattr(node.operation, "trainable_weights", ()):
            of_weights[id(weight)] = max(of_weights.get(id(weight), 0), after)
        before = after + _ends_branch(node)
        for tensor in node.input_tensors:
            behind[id(tensor)] = max(behind.get(id(tensor), 0), before)
    return of_weights


def num_branches(network: keras.Model) -> int:
    """Returns the number of branches on the longest way through a network."""
    return max(branches_behind(network).values(), default=0)


def _ends_branch(node) -> bool:
    """Whether a call adds several tensors."""
    operation = node.operation
    adds = isinstance(operation, (keras.layers.Add, AddRows)) or type(operation).__name__ == "Add"  # as `x + branch` is
    return adds and len(node.input_tensors) > 1
