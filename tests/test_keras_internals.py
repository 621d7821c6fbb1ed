"""The contract with Keras' private names: one clear sentence when an upgrade changes one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mixmo_keras import keras_internals


def network():
    images = keras.Input((4, 4, 1))
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])
    return keras.Model(images, keras.layers.Flatten()(inner(images)))


def test_methods_that_are_overridden_are_still_called():
    for name in keras_internals.OVERRIDDEN:
        assert callable(getattr(keras.Model, name, None)), (
            f"Keras {keras.__version__} has no keras.Model.{name} any more."
        )


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
    optimizer = keras.optimizers.SGD(0.1)
    pairs = [(1, 2)]
    keras_internals.leave_all_reduce_to_the_step(optimizer)
    assert optimizer._all_reduce_sum_gradients(pairs) is pairs


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


def test_a_name_that_is_gone_is_one_sentence():
    class Other:
        pass

    with pytest.raises(RuntimeError, match=r"Keras [\d.]+ has no Other._iterations, which mixmo_keras needs"):
        keras_internals.step_counter(Other())
    with pytest.raises(RuntimeError, match=r"has no Other._all_reduce_sum_gradients"):
        keras_internals.leave_all_reduce_to_the_step(Other())
