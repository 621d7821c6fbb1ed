"""The contract with Keras' private names: one clear sentence when an upgrade changes one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mixmo_keras
from mixmo_keras import keras_internals


def network():
    images = keras.Input((4, 4, 1))
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])
    return keras.Model(images, keras.layers.Flatten()(inner(images)))


@pytest.mark.parametrize("name", keras_internals.OVERRIDDEN)
def test_methods_that_are_overridden_are_still_called(name):
    called = []

    class Overriding(keras.Model):
        pass

    def counted(self, *arguments, **options):
        called.append(name)
        return getattr(super(Overriding, self), name)(*arguments, **options)

    setattr(Overriding, name, counted)
    images = keras.Input((4, 4, 1))
    model = Overriding(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
    model.compile("sgd", "mse")
    model.fit(keras.ops.ones((2, 4, 4, 1)), keras.ops.ones((2, 2)), verbose=0)
    assert called, f"Keras {keras.__version__} does not call keras.Model.{name} in `fit` any more."


def test_the_loss_tracker_is_known_whatever_else_is_named_loss():
    model = network()
    model.compile("sgd", "mse", metrics=[keras.metrics.MeanAbsoluteError(name="loss")])
    assert [keras_internals.is_loss_tracker(model, metric) for metric in model.metrics].count(True) == 1


def test_optimizers():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    optimizer = keras.optimizers.SGD(schedule, gradient_accumulation_steps=2)
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    assert keras_internals.inner_optimizer(scaled) is keras_internals.inner_optimizer(optimizer) is optimizer
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    for _ in range(2):
        optimizer.apply([keras.ops.ones((1,))])
    assert int(keras_internals.step_counter(scaled)) == 2
    assert int(optimizer.iterations) == 1
    assert keras_internals.learning_rate_schedule(scaled) is schedule
    other = keras.optimizers.schedules.CosineDecay(0.2, 10)
    keras_internals.set_learning_rate_schedule(scaled, other)
    assert keras_internals.learning_rate_schedule(optimizer) is other


def test_averages_of_weights():
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.75)
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    for _ in range(2):
        optimizer.apply([keras.ops.ones((1,))])  # 0, then -1
    ((weight, average),) = keras_internals.averaged_weights(keras.optimizers.LossScaleOptimizer(optimizer))
    assert weight is variable
    np.testing.assert_allclose(average, [0.75 * 0 + 0.25 * -1])


def test_the_all_reduce_is_left_out():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow's optimizers sum over replicas")
    optimizer, called = keras.optimizers.SGD(0.1), []
    keras_internals.leave_all_reduce_to_the_step(optimizer)
    unchanged = optimizer._all_reduce_sum_gradients
    optimizer._all_reduce_sum_gradients = lambda pairs: called.append(1) or unchanged(pairs)
    optimizer.apply_gradients([(keras.ops.ones((1,)), keras.Variable([1.0]))])
    assert called, f"Keras {keras.__version__} sums gradients over replicas in another method: both sums would count."


def test_rates_by_variable_are_of_updates_and_decay():
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.2)
    first, second = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer.build([first, second])
    for _ in range(2):  # the second takes the place of the first
        keras_internals.set_rates_by_variable(optimizer, lambda variable: 0.1 if variable is first else 1.0)
    optimizer.apply([keras.ops.ones((1,)), keras.ops.ones((1,))])
    np.testing.assert_allclose([first[0], second[0]], [1 * (1 - 0.5 * 0.2 * 0.1) - 0.05, 1 * (1 - 0.5 * 0.2) - 0.5])
    assert optimizer.weight_decay == 0.2
    keras_internals.set_rates_by_variable(optimizer, None)
    before = float(first[0])
    optimizer.apply([keras.ops.ones((1,)), keras.ops.ones((1,))])
    np.testing.assert_allclose(first[0], before * (1 - 0.5 * 0.2) - 0.5, rtol=1e-6)


def test_batch_norm_is_seen_as_frozen():
    layer, images = keras.layers.BatchNormalization(), keras.ops.convert_to_tensor([[1.0], [3.0]])
    layer.build((None, 1))
    with keras_internals.seen_as_frozen([layer]):
        np.testing.assert_allclose(layer(images, training=True), [[1.0], [3.0]], rtol=1e-3)
    assert layer.trainable
    assert len(layer.trainable_weights) == 2
    np.testing.assert_allclose(layer(images, training=True), [[-1.0], [1.0]], rtol=1e-3)


def test_compiled_metrics_are_forgotten():
    model = network()
    model.compile("sgd", "mse", metrics=["mae"])
    keras_internals.forget_compiled_metrics(model)
    model.compile("sgd", "mse")
    assert [metric.name for metric in model.metrics] == ["loss"]
    assert not keras_internals.is_distributed(model)


def test_metrics_are_built_by_a_batch():
    model = network()
    model.compile("sgd", "mse", metrics=["mae"])
    keras_internals.build_symbolically(model, (keras.ops.ones((2, 4, 4, 1)), keras.ops.ones((2, 8))))
    assert model.optimizer.built
    assert {metric.name for metric in model.metrics} >= {"loss", "compile_metrics"}


def test_graphs():
    model = network()
    names = [type(layer).__name__ for layer in keras_internals.flatten_layers(model, include_self=False)]
    assert sorted(names) == ["Conv2D", "Flatten", "InputLayer", "InputLayer", "Sequential"]
    assert {type(node.operation).__name__ for node in keras_internals.nodes(model)} == {
        "InputLayer",
        "Sequential",
        "Flatten",
    }


def test_compiled_metrics_are_built_for_a_batch_or_the_iterator_that_fit_reads():
    data = (keras.ops.ones((2, 4, 4, 1)), keras.ops.ones((2, 8)))
    for by_iterator in (False, True):
        model = network()
        model.compile("sgd", "mse", metrics=["mae"])
        if by_iterator:
            keras_internals.build_metrics(model, iterator=_iterator_of_fit(model, data))
        else:
            keras_internals.build_metrics(model, data_batch=data)
        compiled = model.metrics[-1]
        assert compiled.built
        assert len(compiled.variables) == 2  # the sum and the count of one mean


def _iterator_of_fit(model, data):
    """What Keras passes to a model that it builds before the first step."""
    passed = []

    class Noting(type(model)):
        def _maybe_symbolic_build(self, iterator=None, **options):
            passed.append(iterator)
            return super()._maybe_symbolic_build(iterator=iterator, **options)

    noting = Noting(model.inputs, model.outputs)
    noting.compile("sgd", "mse", metrics=["mae"])
    noting.fit(*data, verbose=0)
    return passed[0]


def test_a_model_that_is_only_its_graph():
    class WithCall(keras.Model):
        def call(self, images):
            return super().call(images) + 1

    plain = network()
    assert keras_internals.is_only_its_graph(plain)
    assert not keras_internals.is_only_its_graph(WithCall(plain.inputs, plain.outputs))
    assert not keras_internals.is_only_its_graph(keras.layers.Dense(2))


def test_names_of_activations():
    assert keras_internals.name_of_activation(None) == "linear"
    assert keras_internals.name_of_activation(keras.layers.Dense(2, activation="relu").activation) == "relu"
    assert keras_internals.name_of_activation(keras.layers.Dense(2).activation) == "linear"


def test_arguments_of_a_call_are_filled_in():
    first, second = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([first, second], keras.ops.subtract(first, second))
    (node,) = (node for node in keras_internals.nodes(model) if type(node.operation).__name__ == "Subtract")
    values = {id(first): keras.ops.ones((1, 3)) * 5, id(second): keras.ops.ones((1, 3)) * 2}
    positional, named = keras_internals.arguments_of(node, values)
    np.testing.assert_array_equal(node.operation(*positional, **named), [[3, 3, 3]])


def test_a_sublayer_is_replaced():
    class Owner(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(2)

        def call(self, x):
            return self.inner(x)

    owner = Owner()
    owner(keras.ops.ones((1, 3)))
    assert len(owner.weights) == 2
    keras_internals.replace_sublayer(owner, "inner", keras.layers.Activation("relu"))
    assert owner.weights == []
    np.testing.assert_array_equal(owner(keras.ops.convert_to_tensor([[-1.0, 2.0]])), [[0, 2]])


def test_a_layer_draws_from_another_generator():
    layer = keras.layers.RandomBrightness(0.5, seed=3)
    images = keras.ops.ones((2, 4, 4, 3)) * 100
    own = layer.generator
    drawn = []
    for seed in (7, 7, 8):
        with keras_internals.drawing_from(layer, keras.random.SeedGenerator(seed)):
            drawn.append(np.array(layer(images, training=True)))
    assert layer.generator is own
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_exported_variables_have_those_that_are_used(tmp_path):
    model = network()
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("call", model.call, input_signature=[keras.InputSpec(shape=(None, 4, 4, 1), dtype="float32")])
    archive.write_out(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    captured = {id(value) for value in loaded.call.concrete_functions[0].captured_inputs}
    handles = {id(variable.handle) for variable in keras_internals.exported_variables(loaded)}
    assert len(captured) == 2
    assert captured <= handles


def test_trials_are_found_in_a_folder_whose_name_looks_like_a_pattern(tmp_path):
    from keras_tuner.src import backend

    before, folder = backend.io.glob, tmp_path / "search [b] *"
    (folder / "trial_0").mkdir(parents=True)
    (folder / "trial_0" / "trial.json").touch()
    with keras_internals.trials_found_literally():
        assert backend.io.glob(f"{folder}/trial_*/trial.json") == [str(folder / "trial_0" / "trial.json")]
    assert backend.io.glob is before


def test_a_name_that_is_gone_is_one_sentence():
    class Other:
        pass

    with pytest.raises(RuntimeError, match=r"Keras [\d.]+ has no Other._iterations, which mixmo_keras needs"):
        keras_internals.step_counter(Other())
    with pytest.raises(RuntimeError, match=r"has no Other._all_reduce_sum_gradients"):
        keras_internals.leave_all_reduce_to_the_step(Other())


def test_passes_of_our_models_over_arrays_have_no_tuner(monkeypatch):
    images, labels = np.zeros((4, 4, 4, 1), "uint8"), np.zeros(4, "int64")
    of_users = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    model = mixmo_keras.SingleNetwork("tiny_4", num_classes=2, input_shape=(4, 4, 1), augmentation=None)
    model.compile(run_eagerly=True)
    plain = network()
    plain.compile("sgd", "mse")
    tuned, begin = [], tf.data.Dataset.__iter__
    monkeypatch.setattr(
        tf.data.Dataset, "__iter__", lambda self: [tuned.append(self.options().autotune.enabled), begin(self)][1]
    )
    for call, known in (
        (lambda: model.fit(images, labels, validation_data=(images, labels), verbose=0), {False}),
        (lambda: model.evaluate(images, labels, verbose=0), {False}),
        (lambda: model.predict(images, verbose=0), {False}),
        (lambda: model.evaluate(of_users, verbose=0), {None}),
        (lambda: plain.predict(images.astype("float32"), verbose=0), {None}),
    ):
        tuned.clear()
        call()
        assert {*tuned} == known
