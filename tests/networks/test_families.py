"""Every family of backbones that cosub trains, through the same checks: its size, its branches, and every method on it."""

import contextlib
import functools

import families
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import ops

import mixmo_keras
from mixmo_keras import backbones
from mixmo_keras.networks.layers import is_linear
from mixmo_keras.networks.stochastic_depth import DropPath, StochasticDepth, TakeRows
from mixmo_keras.seeds import StepSeed
from mixmo_keras.training.checkpoints import Checkpoints
from mixmo_keras.training.objective import objective

X, Y = families.data()
each_family = pytest.mark.parametrize("family", families.FAMILIES)
# a whole training of each takes seconds: the quickest stands for all in `make test`
trained_families = pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[] if name == "deit3" else pytest.mark.slow) for name in families.FAMILIES],
)
OPTIONS = dict(num_classes=families.NUM_CLASSES, augmentation=None, seed=0)


def cosub(family, **options):
    return mixmo_keras.CoSub(families.build(family), drop_path=0, l2=0.0, **OPTIONS | options)


# with 1000 classes: the number that other implementations have, and what the papers print of it in millions. timm lists
# 4.85 million of PiT-tiny, where the paper has 4.9
PARAMETERS = {
    "deit3_small16": (22_059_496, 22.05),
    "deit3_medium16": (38_849_512, 38.8),
    "convnext_atto": (3_695_520, 3.7),
    "convnext_tiny": (28_589_128, 28.6),
    "swin_tiny": (28_288_354, 28.3),
    "regnety_200mf": (3_162_996, 3.2),
    "regnety_3_2gf": (19_436_338, 19.4),
    "regnety_16gf": (83_590_140, 83.6),
    "pit_tiny": (4_847_272, 4.9),
    "pit_base": (73_764_840, 73.8),
    "xcit_nano12_16": (3_053_224, 3.1),
    "xcit_small12_16": (26_253_304, 26.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    parts = backbones.get(name, None, 0)
    assert parts.input_shape == (224, 224, 3)
    weights = [weight for network in (parts.encoder, parts.core) for weight in network.trainable_weights]
    total = sum(int(np.prod(weight.shape)) for weight in weights) + (parts.core.output_shape[-1] + 1) * 1000
    exact, printed = PARAMETERS[name]
    assert total == exact
    assert total / 1e6 == pytest.approx(printed, abs=0.054 if printed != 22.05 else 0.01)


@each_family
def test_encoders_are_one_convolution_and_weights_follow_from_the_seed(family):
    parts, again, other = (families.build(family, seed=seed) for seed in (0, 0, 1))
    assert is_linear(parts.encoder)
    assert tiny.equal_weights(parts.core, again.core)
    assert tiny.equal_weights(parts.encoder, again.encoder)
    random = [weight for weight in parts.core.weights if np.std(weight) > 0]
    names = {weight.path for weight in random}
    assert len(names) > 3
    of_other = {weight.path: weight for weight in other.core.weights}
    for weight in random:
        assert not np.array_equal(weight, of_other[weight.path]), weight.path


@each_family
def test_rates_of_the_branches(family):
    network, count = families.FAMILIES[family]

    def rates(kind, drop_path):
        return [layer.rate for layer in network(drop_path=drop_path).core.layers if isinstance(layer, kind)]

    rising = [0.4 * (index + 1) / count for index in range(count)]
    assert rates(StochasticDepth, 0.0) == []
    assert rates(StochasticDepth, 0.4) == [0.4] * count
    assert rates(StochasticDepth, DropPath(0.4, ramp=True)) == pytest.approx(rising)
    assert rates(TakeRows, DropPath(0.4, ramp=True, efficient=True)) == pytest.approx(rising)


@each_family
def test_stochastic_depth_changes_nothing_at_inference(family):
    plain, dropped, efficient = (families.build(family, rate) for rate in (0.0, 0.5, DropPath(0.5, efficient=True)))
    random = np.random.default_rng(0)
    values = {weight.path: random.normal(0.2, 0.1, weight.shape) ** 2 for weight in plain.core.weights}
    features = random.normal(size=(3, *plain.core.input_shape[1:])).astype("float32")
    for parts in (plain, dropped, efficient):
        for weight in parts.core.weights:  # their order is another where branches have more layers
            weight.assign(values[weight.path])
        np.testing.assert_allclose(parts.core(features), plain.core(features), rtol=1e-5, atol=1e-5)


@each_family
def test_cosub_goes_down_its_loss_of_four_terms(family):
    model = cosub(family)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    seed = StepSeed(model.seed, 0)
    batch = model.make_batch((tf.constant(X), tf.constant(Y)), seed)
    logits = objective(model, batch, seed).logits
    first, second = np.split(np.asarray(logits[:, 0], "float64"), 2)
    assert np.abs(first - second).max() > 1e-3  # two submodels
    labels, of_second = np.split(np.asarray(batch.labels)[:, 0], 2)
    np.testing.assert_array_equal(labels, of_second)
    targets = np.eye(families.NUM_CLASSES)[labels]

    def entropy(logits, targets):
        return -(targets * tiny.log_softmax(logits)).sum(-1).mean() / 4

    expected = entropy(first, targets) + entropy(second, targets)
    expected += entropy(first, np.exp(tiny.log_softmax(second))) + entropy(second, np.exp(tiny.log_softmax(first)))
    before = model.get_weights()
    logs = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert np.mean([not np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True)]) > 0.8


@trained_families
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("method", [mixmo_keras.CutMixMo, mixmo_keras.MIMO])
def test_members_train_save_load_and_fuse(method, family, tmp_path):
    model = method(families.build(family), batch_repetitions=1, **OPTIONS)
    assert np.isfinite(model.fit(X, Y, batch_size=4, verbose=0).history["loss"]).all()
    expected = model.predict(X, verbose=0)
    members = model.predict_members(X, verbose=0)
    assert np.abs(members[:, 0] - members[:, 1]).max() > 1e-3
    mean = members.mean(1)
    if method is mixmo_keras.MIMO:  # the mean of probabilities
        mean = np.log(np.exp(tiny.log_softmax(members)).mean(1))
    np.testing.assert_allclose(expected, mean, atol=1e-5 * np.abs(members).max())
    np.testing.assert_allclose(model.fused().predict(X, verbose=0), mean, atol=1e-5 * np.abs(members).max())
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").predict(X, verbose=0), expected)


@pytest.mark.slow
@each_family
@pytest.mark.parametrize("method", [mixmo_keras.CoSub, mixmo_keras.CutMixMo, mixmo_keras.MIMO])
def test_a_saved_model_serves_the_ensembles_probabilities(method, family, tmp_path):
    options = OPTIONS | (dict(drop_path=0) if method is mixmo_keras.CoSub else {})
    model = method(families.build(family), **options)
    served = tf.saved_model.load(model.export(tmp_path / "served")).signatures["serving_default"]
    probabilities = served(tf.constant(X, "float32"))["probabilities"]
    np.testing.assert_allclose(probabilities, ops.softmax(model.predict(X, verbose=0)), atol=1e-5)


@functools.cache
def _of_a_family(family):
    """A compiled model, and the values of its variables at the start: most of a run's time goes into tracing its step."""
    model = cosub(family)
    model.compile(keras.optimizers.SGD(0.05, 0.9), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model, [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.slow
@each_family
def test_a_killed_run_ends_with_the_same_bytes(family, tmp_path):
    images, labels = families.data(24)

    def run(folder, *callbacks):
        model, values = _of_a_family(family)
        variables = [*model.variables, *model.optimizer.variables]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        resuming = Checkpoints(folder, every_steps=2)
        position = resuming.restore(model)
        options = dict(batch_size=8, shuffle=False, verbose=0, epochs=2, initial_epoch=position.epoch)
        model.fit(images, labels, callbacks=[*callbacks, resuming], **options)
        return [np.array(variable) for variable in variables]

    with contextlib.suppress(KeyboardInterrupt):
        run(tmp_path / "killed", tiny.Die(4))
    resumed, whole = run(tmp_path / "killed"), run(tmp_path / "whole")
    assert tiny.equal_weights(resumed, whole)
    _of_a_family.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@each_family
def test_cosub_under_replicas_and_on_jax(family, dtype, backend):
    name = {"tensorflow": "families_under_replicas.py", "jax": "families_on_jax.py"}[backend]
    assert tiny.script(name, family, dtype, backend=backend).endswith("done\n")
