"""Rates by group of layers, and a core that stays as it is at first: against optimizers of that rate, and frozen layers."""

import contextlib
import itertools

import keras
import numpy as np
import pytest
import tiny

import mixmo_keras
from mixmo_keras import SAM, FineTuning
from mixmo_keras.training.checkpoint_files import values_of
from mixmo_keras.training.checkpoints import Checkpoints

X, Y = tiny.data()
OPTIMIZERS = {
    "SGD": lambda rate, **options: keras.optimizers.SGD(rate, 0.9, nesterov=True, **options),
    "SGD, decay": lambda rate, **options: keras.optimizers.SGD(rate, 0.9, weight_decay=0.1, **options),
    "AdamW": lambda rate, **options: keras.optimizers.AdamW(rate, weight_decay=0.1, **options),
}


def compiled(optimizer="SGD", fine_tuning=None, rate=0.1, core_trains=True, network=None, **options):
    """A tiny model with L2, at once, with the options of the network, of `compile` and of the optimizer."""
    of_compile = {name: options.pop(name) for name in ("sharpness", "run_eagerly", "jit_compile") if name in options}
    model = tiny.model(l2=0.0 if "decay" in optimizer or optimizer == "AdamW" else 0.01, **network or {})
    model.core.trainable = core_trains
    model.compile(OPTIMIZERS[optimizer](rate, **options), fine_tuning=fine_tuning, **of_compile)
    return model


def fit(model, **options):
    return model.fit(X, Y, **dict(batch_size=4, shuffle=False, verbose=0) | options).history


def of_core(model):
    return values_of(model.core.weights)  # batch norm's averages too


def of_rest(model):
    return values_of([*model.encoders.weights, *model.heads.weights])


def some(*options):
    """Optimizers and options, each of which is met by default; all pairs are slow."""
    chosen = [(name, options[number % len(options)]) for number, name in enumerate(OPTIMIZERS)]
    chosen += [(name, one) for name, one in zip(OPTIMIZERS, options[len(OPTIMIZERS) :], strict=False)]
    pairs = itertools.product(OPTIMIZERS, options)
    return [pytest.param(*pair, id=f"{pair}", marks=() if pair in chosen else pytest.mark.slow) for pair in pairs]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("optimizer", "options"), some({}, dict(use_ema=True), dict(gradient_accumulation_steps=2)))
def test_a_step_moves_the_core_as_an_optimizer_of_its_rate_and_the_rest_as_one_of_the_whole(optimizer, options):
    model = compiled(optimizer, FineTuning(0.3), **options)
    whole, slow = compiled(optimizer, **options), compiled(optimizer, rate=0.03, **options)
    before = values_of(model.core.trainable_weights)
    for one in (model, whole, slow):
        fit(one, batch_size=4 if "gradient_accumulation_steps" in options else 8)  # one update
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, values_of(model.core.trainable_weights), strict=True))
    for ours, theirs in ((of_rest(model), of_rest(whole)), (of_core(model), of_core(slow))):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("optimizer", "options"),
    some(dict(sharpness=SAM(0.5)), dict(use_ema=True), dict(gradient_accumulation_steps=3), {}),
)
def test_frozen_epochs_are_those_of_a_network_whose_core_is_frozen(optimizer, options):
    """Batch norm in inference mode, weights that do not move, decay or count in SAM's norm: the rest trains likewise."""
    model = compiled(optimizer, FineTuning(1.0, frozen_epochs=2), **options)
    frozen = compiled(optimizer, core_trains=False, **options)
    start, rest = of_core(model), of_rest(model)
    shown = [fit(one, epochs=2)["loss"] for one in (model, frozen)]
    if "use_ema" in options:  # the averages, which Keras puts in when `fit` ends, are of values that never changed
        for a, b in zip(start, of_core(model), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    else:
        assert tiny.equal_weights(start, of_core(model))
    assert not tiny.equal_weights(rest, of_rest(model))
    np.testing.assert_allclose(*shown, rtol=1e-5)
    for a, b in zip(of_rest(model), of_rest(frozen), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


class Watching(keras.callbacks.Callback):
    """The core at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.cores = []

    def on_epoch_end(self, epoch, logs=None):
        self.cores.append(of_core(self.model))


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(dict(jit_compile=True), marks=pytest.mark.slow),
        pytest.param(
            dict(network=dict(backbone="wrn10_1", input_shape=tiny.SHAPE, dtype="mixed_float16")),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_the_core_trains_from_the_epoch_in_which_it_is_free(options):
    model, watching = compiled("AdamW", FineTuning(0.5, frozen_epochs=2), rate=1e-3, **options), Watching()
    start = of_core(model)
    fit(model, epochs=3, callbacks=[watching])
    first, second, third = watching.cores
    assert tiny.equal_weights(start, first)
    assert tiny.equal_weights(first, second)
    assert all(np.abs(a - b).max() > 0 for a, b in zip(second, third, strict=True))
    model.train_on_batch(X, Y)  # and outside `fit`
    assert not tiny.equal_weights(third, of_core(model))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.usefixtures("eagerly")
def test_batch_norm_keeps_its_averages_and_its_weights_train():
    model = compiled(fine_tuning=FineTuning(1.0, freeze_batch_norm=True))
    batch_norms = [layer for layer in model.core.layers if isinstance(layer, keras.layers.BatchNormalization)]
    averages = [weight for layer in batch_norms for weight in (layer.moving_mean, layer.moving_variance)]
    before, of_core_before = values_of(averages), values_of(model.core.trainable_weights)
    fit(model)
    assert batch_norms
    assert tiny.equal_weights(values_of(averages), before)
    assert not any(
        np.array_equal(*pair) for pair in zip(values_of(model.core.trainable_weights), of_core_before, strict=True)
    )
    assert all(layer.trainable for layer in batch_norms)


def test_adam_gathers_its_averages_while_the_core_is_frozen():
    """Late in training those that begin at zero would make first steps of several times the rate."""
    model = compiled("AdamW", FineTuning(0.5, 1))
    fit(model, batch_size=8)
    averages = dict(zip([w.path for w in model.trainable_weights], model.optimizer._momentums, strict=True))
    for weight in model.core.trainable_weights:
        assert np.abs(np.array(averages[weight.path])).max() > 0, weight.path


# in a frozen epoch, in the free one behind it
@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("dies_after", [1, 3])
def test_a_killed_run_goes_on_frozen_or_free_as_it_was(tmp_path, dies_after):
    def run(folder, *callbacks):
        model, watching = compiled("AdamW", FineTuning(0.5, 1), sharpness=SAM(0.1), use_ema=True), Watching()
        checkpoints = Checkpoints(tmp_path / folder, every_steps=1)
        position = checkpoints.restore(model)
        callbacks = [watching, *callbacks, checkpoints]
        fit(model, epochs=2, initial_epoch=position.epoch, callbacks=callbacks)
        return model

    with contextlib.suppress(KeyboardInterrupt):
        run("killed", tiny.Die(dies_after))
    resumed, whole = run("killed"), run("whole")
    assert tiny.equal_weights(resumed, whole)
    assert tiny.equal_weights(*(values_of(model.optimizer.variables) for model in (resumed, whole)))


def test_it_is_saved_and_left_out_anew(tmp_path):
    model = compiled(fine_tuning=FineTuning(0.2, 3))
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.fine_tuning == FineTuning(0.2, 3)
    copy.compile()
    assert copy.fine_tuning is None  # as every argument of `compile` that is left out


def test_an_optimizer_that_is_compiled_with_again_has_one_rate():
    model = compiled(fine_tuning=FineTuning(0.2))
    model.compile(model.optimizer)
    assert not {"_backend_update_step", "_apply_weight_decay"} & set(vars(model.optimizer))


@pytest.mark.slow
def test_two_replicas_freeze_and_share_out_rates_alike():
    assert tiny.script("frozen_under_replicas.py").endswith("done\n")


def test_what_makes_no_sense_is_refused():
    with pytest.raises(
        ValueError, match="`fine_tuning` has no meaning for this model: no weight of its core is trained"
    ):
        compiled(fine_tuning=FineTuning(), core_trains=False)
    assert mixmo_keras.FineTuning is FineTuning
