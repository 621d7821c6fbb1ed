"""Graphs of functional Keras models: nested models written out, and any stretch of one as a network of its own."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import keras

from mixmo_keras import keras_internals
from mixmo_keras.networks.copying import copy_network

# operation, tensor it is called on -> the operations to call in its place, one after the other
Rewrite = Callable[[Any, keras.KerasTensor], Iterable[Any]]


def flat(model: keras.Model, input_shape: tuple[int, int, int] | None = None, rewrite: Rewrite | None = None):
    """Returns a copy of a functional or Sequential model of one input and one output, in which no model is nested.

    Args:
        model: The model; it stays as it is.
        input_shape: (H, W, C) of the copy's images, for a model of any size.
        rewrite: What is called in place of an operation of one input. Defaults to the operation itself.
    """
    copied = _copy_of_graph(model)
    images = keras.Input(copied.input_shape[1:] if input_shape is None else input_shape, name=copied.inputs[0].name)
    names: dict[str, int] = {}  # of the operations so far, which must differ

    def call(operation, *args, **kwargs):
        if has_graph(operation):
            inner = functional(operation)
            known = dict(zip(map(id, inner.inputs), keras.tree.flatten(args[0]), strict=True))
            _replay(inner, known, call)
            outputs = [known[id(output)] for output in inner.outputs]
            return outputs if len(outputs) > 1 else outputs[0]
        if isinstance(operation, keras.layers.Normalization) and operation.input_mean is None:
            operation = _with_constants(operation)
        if rewrite is None or not _is_call_of_one(args, kwargs):
            return named(operation)(*args, **kwargs)
        x, *others = args
        for each in rewrite(operation, x):
            x = named(each)(x, *others, **kwargs) if each is operation else named(each)(x)
        return x

    def named(operation):
        number = 1
        name = operation.name
        while names.setdefault(operation.name, id(operation)) != id(operation):
            number += 1
            operation.name = f"{name}_{number}"
        return operation

    known = {id(copied.inputs[0]): images}
    _replay(copied, known, call)
    return keras.Model(images, known[id(copied.outputs[0])], name=model.name)


def stretch(model: keras.Model, start: keras.KerasTensor, end: keras.KerasTensor, name: str) -> keras.Model:
    """Returns a copy of what a flat model computes from one of its tensors to another, as a network."""
    begin = keras.Input(start.shape[1:], dtype=start.dtype, name=start.name if start is model.inputs[0] else None)
    known = {id(start): begin}
    _replay(model, known, lambda operation, *args, **kwargs: operation(*args, **kwargs))
    return copy_network(keras.Model(begin, known[id(end)], name=name))


def functional(model: keras.Model) -> keras.Model:
    """The graph of a model that has one, without its class."""
    return keras.Model(model.inputs, model.outputs, name=model.name)


def _copy_of_graph(model: keras.Model) -> keras.Model:
    """A copy of a model's graph: of its layers, or, where one of these can't be made again, by the model's own class."""
    try:
        return copy_network(functional(model))
    except Exception:  # as keras_hub's embedding of patches, which its backbone makes of other arguments
        with contextlib.suppress(Exception):
            return functional(copy_network(model))
        raise


def has_graph(operation: Any) -> bool:
    """Whether this is a built Sequential model, or one made of a graph whose class has no `call` of its own."""
    if isinstance(operation, keras.Sequential):
        return bool(operation.built)
    return keras_internals.is_only_its_graph(operation)


def operations(model: keras.Model) -> list[Any]:
    """What a flat model calls, in order, its input aside."""
    return [node.operation for node in keras_internals.nodes(model) if not node.is_input]


def producers(model: keras.Model) -> dict[int, Any]:
    """The call, a node with `operation`, `input_tensors` and `outputs`, that made each tensor; by the tensor's `id`."""
    return {id(tensor): node for node in keras_internals.nodes(model) for tensor in node.outputs}


def output_of(model: keras.Model, name: str, call: int = -1) -> Any:
    """What a call of the operation of a name gives, by default its last; `None` where there is no such operation."""
    outputs = [node.outputs for node in keras_internals.nodes(model) if node.operation.name == name]
    if not outputs:
        return None
    return outputs[call] if len(outputs[call]) > 1 else outputs[call][0]


def passing_by(model: keras.Model, cut: keras.KerasTensor) -> tuple[str, str] | None:
    """Names of an operation before a cut and one behind it that takes the first's output past the cut; `None` if none do."""
    before = keras_internals.nodes(keras.Function(model.inputs, cut))
    made_before = {id(tensor): node.operation.name for node in before for tensor in node.outputs}
    behind = [node for node in keras_internals.nodes(model) if not any(node is other for other in before)]
    for node in behind:
        for tensor in keras.tree.flatten(node.input_tensors):
            if id(tensor) in made_before and tensor is not cut:
                return made_before[id(tensor)], node.operation.name
    return None


def _with_constants(adapted: keras.layers.Normalization) -> keras.layers.Normalization:
    """The same normalisation with its statistics in its configuration: copies of an adapted one would not use them."""
    of_data = {"mean": adapted.adapt_mean, "variance": adapted.adapt_variance}
    constants = {name: keras.ops.convert_to_numpy(value).tolist() for name, value in of_data.items()}
    return keras.layers.Normalization.from_config(adapted.get_config() | constants)


def _is_call_of_one(args: tuple, kwargs: dict) -> bool:
    tensors = [one for one in keras.tree.flatten((args, kwargs)) if isinstance(one, keras.KerasTensor)]
    return len(tensors) == 1 and bool(args) and args[0] is tensors[0]


def _replay(model: keras.Model, known: dict[int, Any], call: Callable) -> None:
    """Calls what follows from the known tensors of a graph, in its order; `known` gets what comes of it."""
    for node in keras_internals.nodes(model):
        if node.is_input or any(id(tensor) not in known for tensor in node.input_tensors):
            continue
        if all(id(tensor) in known for tensor in node.outputs):
            continue  # where a stretch begins
        args, kwargs = keras_internals.arguments_of(node, known)
        outputs = keras.tree.flatten(call(node.operation, *args, **kwargs))
        known.update(zip(map(id, node.outputs), outputs, strict=True))
