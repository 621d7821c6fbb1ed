"""Every private name of Keras that this package touches, in one place: what for, and what replaces it if Keras moves it.

`tests/test_keras_internals.py` says in one sentence which of them an upgrade of Keras changed. Methods that Keras calls on
a model and that `MixMo` overrides (`_maybe_symbolic_build`) are listed in `OVERRIDDEN`.
"""

import contextlib
import functools
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from mixmo_keras.common import passes

# methods of keras.Model that MixMo overrides: Keras must go on calling them
OVERRIDDEN = ("_maybe_symbolic_build",)


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> Any:
    """The optimizer itself, which under mixed_float16 a `LossScaleOptimizer` wraps."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def step_counter(optimizer: keras.optimizers.Optimizer) -> Any:
    """The variable that counts training steps. Public `iterations` counts updates: fewer, if gradients accumulate."""
    return _attribute(inner_optimizer(optimizer), "_iterations")


def learning_rate_schedule(optimizer: keras.optimizers.Optimizer) -> Any:
    """The schedule, or variable, that the optimizer was given; public `learning_rate` is its value now."""
    return _attribute(inner_optimizer(optimizer), "_learning_rate")


def set_learning_rate_schedule(optimizer: keras.optimizers.Optimizer, schedule: Any) -> None:
    """Replaces the schedule. The public setter refuses to replace one."""
    _attribute(inner_optimizer(optimizer), "_learning_rate")
    inner_optimizer(optimizer)._learning_rate = schedule


def averaged_weights(optimizer: keras.optimizers.Optimizer) -> list[tuple]:
    """(weight, its moving average) of each trainable weight, in a built optimizer with `use_ema=True`."""
    inner = inner_optimizer(optimizer)
    weights, averages = _attribute(inner, "_trainable_variables"), _attribute(inner, "_model_variables_moving_average")
    return list(zip(weights, averages, strict=True))


def weights_of(optimizer: keras.optimizers.Optimizer | None) -> list:
    """The weights that an optimizer was built for; none before."""
    inner = inner_optimizer(optimizer)
    return list(_attribute(inner, "_trainable_variables")) if getattr(inner, "built", False) else []


def set_rates_by_variable(
    optimizer: keras.optimizers.Optimizer,
    rate_of: Callable[[Any], float] | None,
    is_decayed: Callable[[Any], bool] | None = None,
) -> None:
    """Lets an optimizer update each variable, and decay it, by a share of its learning rate; by all where there is none.

    For good, not while a step is traced: replicas of TensorFlow's strategies trace theirs at the same time, in threads.

    Args:
        optimizer: It has the weight decay by now that it will have.
        rate_of: A function of a variable to its share, called wherever an update is traced.
        is_decayed: A function of a variable to whether its weights decay. Defaults to all variables. (What Keras'
            `exclude_from_weight_decay` is told isn't saved.)
    """
    inner = inner_optimizer(optimizer)
    for name in ("_backend_update_step", "_apply_weight_decay"):
        vars(inner).pop(name, None)  # of an earlier call
    update, decay, whole = (
        _attribute(inner, name) for name in ("_backend_update_step", "_apply_weight_decay", "weight_decay")
    )
    if rate_of is None and is_decayed is None:
        return
    rate_of = rate_of or (lambda variable: 1.0)

    def update_by_rate(gradients, variables, learning_rate):
        pairs = [
            (rate_of(variable), gradient, variable) for gradient, variable in zip(gradients, variables, strict=True)
        ]
        for rate in sorted({rate for rate, *_ in pairs}):
            some = [pair for of_pair, *pair in pairs if of_pair == rate]
            update(*map(list, zip(*some, strict=True)), keras.ops.convert_to_tensor(learning_rate) * rate)

    def decay_by_rate(variables):
        if whole is None:
            return
        variables = [variable for variable in variables if is_decayed is None or is_decayed(variable)]
        try:
            for rate in sorted({rate_of(variable) for variable in variables}):
                inner.weight_decay = whole * rate
                decay([variable for variable in variables if rate_of(variable) == rate])
        finally:
            inner.weight_decay = whole

    inner._backend_update_step, inner._apply_weight_decay = update_by_rate, decay_by_rate


@contextlib.contextmanager
def seen_as_frozen(layers: Sequence[keras.layers.Layer]) -> Iterator[None]:
    """Lets layers compute as frozen ones do, while their variables stay trainable as they are: models list these."""
    before = [_attribute(layer, "_trainable") for layer in layers]
    for layer in layers:
        layer._trainable = False
    try:
        yield
    finally:
        for layer, trainable in zip(layers, before, strict=True):
            layer._trainable = trainable


def leave_all_reduce_to_the_step(optimizer: keras.optimizers.Optimizer) -> None:
    """Keeps the optimizer from summing gradients over replicas, which the training step does before it clips them.

    Keras sums after clipping and accumulating. Summing in both places would silently train at several times the rate.
    """
    inner = inner_optimizer(optimizer)
    _attribute(inner, "_all_reduce_sum_gradients")
    inner._all_reduce_sum_gradients = _unchanged


def _unchanged(gradients_and_variables: Any) -> Any:
    return gradients_and_variables


def forget_compiled_metrics(model: keras.Model) -> None:
    """`compile` keeps the metrics of an earlier call where it is given none."""
    _attribute(model, "_compile_metrics")
    model._compile_metrics = None


def is_loss_tracker(model: keras.Model, metric: keras.metrics.Metric) -> bool:
    """Whether a metric is the mean of the losses that Keras logs as `loss`, which a user's metric may be named too."""
    return metric is _attribute(model, "_loss_tracker")


def build_metrics(model: keras.Model, iterator: Any = None, data_batch: Any = None) -> None:
    """Creates the metrics' variables for the labels of a batch, or of the iterator that `fit` and `evaluate` read.

    Keras does so within the first step, and TensorFlow traces a step that creates variables twice.
    """
    metrics = _attribute(model, "_compile_metrics")
    if metrics is None or metrics.built:
        return
    data = data_batch if iterator is None else _attribute(iterator, "_distributed_dataset").element_spec
    _, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
    if labels is not None:
        metrics.build(keras.KerasTensor((None, *labels.shape[1:])), keras.KerasTensor((None, *model.output_shape[1:])))


def compiled_metrics(model: keras.Model, labels: Any, answers: Any) -> list[tuple[keras.metrics.Metric, bool]]:
    """The metrics that a model was compiled with, and whether each is weighted; made for labels and answers if need be."""
    compiled = _attribute(model, "_compile_metrics")
    if compiled is None:
        return []
    if not compiled.built:
        compiled.build(labels, answers)
    flat = [(compiled, "_flat_metrics", False), (compiled, "_flat_weighted_metrics", True)]
    lists = [(one, is_weighted) for owner, name, is_weighted in flat for one in _attribute(owner, name) if one]
    return [(metric, is_weighted) for one, is_weighted in lists for metric in one.metrics]


def wrapped_by(metric: keras.metrics.MeanMetricWrapper) -> tuple[Any, dict]:
    """The function whose mean over images a metric is, and its options."""
    return _attribute(metric, "_fn"), _attribute(metric, "_fn_kwargs")


def own_trainable_variables(layer: keras.layers.Layer) -> list:
    """A layer's variables that `trainable` is about, frozen or not, but for those of its sub-layers."""
    return list(_attribute(layer, "_trainable_variables"))


def set_trainable(layer: keras.layers.Layer, trainable: bool) -> None:
    """Sets `trainable` of a layer, but for its variables and its sub-layers, as the public setter would too."""
    _attribute(layer, "_trainable")
    layer._trainable = trainable


@contextlib.contextmanager
def state_of_fit(model: keras.Model) -> Iterator[None]:
    """Puts back, when the block ends, what Keras keeps on a model for one `fit`, and leaves there where it raises."""
    initial_epoch = _attribute(
        model, "_initial_epoch"
    )  # of `keras.callbacks.BackupAndRestore`, which never takes it back
    try:
        yield
    finally:
        model._initial_epoch, model._eval_epoch_iterator = (
            initial_epoch,
            None,
        )  # the latter of this `fit`'s validation data


@contextlib.contextmanager
def variables_stay(model: keras.Model) -> Iterator[None]:
    """Gives variables their values back where the block raises: on JAX Keras' loops take them away meanwhile."""
    if keras.backend.backend() != "jax":
        yield
        return
    variables = [
        *model.variables,
        *getattr(getattr(model, "optimizer", None), "variables", ()),
        *model.metrics_variables,
    ]
    before = [(variable, _attribute(variable, "_value")) for variable in variables]
    try:
        yield
    except BaseException:
        model.jax_state_sync()
        for variable, value in before:
            if variable._value is None and value is not None and not value.is_deleted():
                variable._value = value
        model._jax_state = None
        raise


def is_distributed(model: keras.Model) -> bool:
    """Whether the model was built in the scope of a `tf.distribute` strategy; public `distribute_strategy` has a default."""
    if keras.backend.backend() != "tensorflow":
        return False  # other backends' models have no such attribute
    return _attribute(model, "_distribute_strategy") is not None


def build_symbolically(model: keras.Model, data_batch: Any) -> None:
    """Builds metrics and optimizer for a batch, as the first step of `fit` would."""
    _attribute(model, "_symbolic_build")(data_batch=data_batch)


def flatten_layers(network: keras.Model, include_self: bool = True) -> list[keras.layers.Layer]:
    """All layers of a network, those of nested networks too."""
    return list(_attribute(network, "_flatten_layers")(include_self=include_self))


@functools.cache
def _functional_class() -> Any:
    """The class of functional models, which Keras does not name in public."""
    tensor = keras.Input((1,))
    return type(keras.Model(tensor, tensor))


def is_only_its_graph(model: Any) -> bool:
    """Whether a model is functional and calling it computes its graph: its class has no `call` of its own."""
    plain = _functional_class()
    return isinstance(model, plain) and type(model).call is plain.call


def name_of_activation(activation: Any) -> str:
    """The name of an activation function, `"linear"` for none."""
    return "linear" if activation is None else str(getattr(activation, "__name__", activation))


def nodes(function: Any) -> list:
    """All calls of operations in the graph of a functional model or a `keras.Function`, each behind those it depends on."""
    by_depth = _attribute(function, "_nodes_by_depth")
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def arguments_of(node: Any, tensors: dict[int, Any]) -> tuple[tuple, dict]:
    """The arguments of a call in a graph, with tensors, by the `id` of the graph's, in place of the graph's."""
    return _attribute(node, "arguments").fill_in(tensors)


def replace_sublayer(layer: keras.layers.Layer, name: str, replacement: keras.layers.Layer) -> None:
    """Puts a layer without weights in place of a built layer's sub-layer, whose weights it then no longer has."""
    _attribute(layer, "_tracker").untrack(_attribute(layer, name))
    delattr(layer, name)
    layer.__dict__[name] = replacement  # past the check that a built layer gets no new state


@contextlib.contextmanager
def drawing_from(layer: keras.layers.Layer, seed: keras.random.SeedGenerator) -> Iterator[Any]:
    """Lets a layer that augments draw from a generator in place of its own, which `generator` holds, if it has one."""
    attributes = vars(layer)
    own = attributes.get("generator")
    if own is not None:
        attributes["generator"] = seed  # past Keras' tracking: nothing of it shall be saved
    try:
        yield seed
    finally:
        if own is not None:
            attributes["generator"] = own


def exported_variables(loaded: Any) -> list:
    """All variables of what `keras.export.ExportArchive` wrote, which writes each twice and uses one of the two."""
    return [*loaded.variables, *_attribute(loaded, "_all_variables")]


@contextlib.contextmanager
def passes_end_at_once() -> Iterator[None]:
    """Lets `fit`, `evaluate` and `predict` pass over arrays and Python's data without tf.data's tuner: see `common.passes`.

    A tf.data.Dataset keeps its own options. Keras makes its iterators by a class that a module names; options of a data set
    that it makes can't be passed. Other models that train in other threads meanwhile do without the tuner too.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    from keras.src.backend.tensorflow import trainer

    of_keras, of_ours = _iterators()
    trainer.TFEpochIterator = of_ours
    try:
        yield
    finally:
        trainer.TFEpochIterator = of_keras


@functools.cache
def _iterators() -> tuple[type, type]:
    """Keras' class of the iterators over an epoch, and its subclass without tuner."""
    import tensorflow as tf
    from keras.src.backend.tensorflow import trainer

    of_keras: Any = _attribute(trainer, "TFEpochIterator")

    class Untuned(of_keras):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            dataset = _attribute(self, "_distributed_dataset")
            is_users = type(self.data_adapter).__name__ == "TFDatasetAdapter"
            if isinstance(dataset, tf.data.Dataset) and not is_users:
                self._distributed_dataset = dataset.with_options(passes.untuned())

    return of_keras, Untuned


@contextlib.contextmanager
def trials_found_literally() -> Iterator[None]:
    """Lets KerasTuner find the trials of a search that goes on in a folder whose name a glob would take for a pattern."""
    from keras_tuner.src import backend

    before = _attribute(backend.io, "glob")

    def of_folder(pattern: str) -> list[str]:
        folder, *trials = pattern.rsplit(os.sep, 2)  # such as trial_*/trial.json
        return glob.glob(os.path.join(glob.escape(folder), *trials))

    backend.io.glob = of_folder
    try:
        yield
    finally:
        backend.io.glob = before


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        raise RuntimeError(
            f"Keras {keras.__version__} has no {type(owner).__name__}.{name}, which mixmo_keras needs: install the version "
            "that its dependencies name, or see mixmo_keras/keras_internals.py."
        ) from None
