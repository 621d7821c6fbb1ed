"""Keras' augmentation layers in a training step: each row for itself, the same again for the same step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras import layers, ops

import mixmo_keras
from mixmo_keras.mixing import augmentation, keras_augmentation
from mixmo_keras.seeds import StepSeed
from mixmo_keras.training import compiling

ARGUMENTS = {
    "RandomBrightness": dict(factor=0.5),
    "RandomColorDegeneration": dict(factor=0.8),
    "RandomColorJitter": dict(brightness_factor=0.5, contrast_factor=0.5, saturation_factor=0.5, hue_factor=0.3),
    "RandomContrast": dict(factor=0.5),
    "RandomElasticTransform": dict(factor=1.0),
    "RandomErasing": dict(factor=1.0),
    "RandomHue": dict(factor=0.5),
    "RandomPerspective": dict(factor=1.0, scale=0.5),
    "RandomPosterization": dict(factor=(1, 7)),
    "RandomRotation": dict(factor=0.3),
    "RandomSaturation": dict(factor=0.8),
    "RandomSharpness": dict(factor=1.0),
    "RandomShear": dict(x_factor=0.5),
    "RandomTranslation": dict(height_factor=0.4, width_factor=0.4),
    "RandomZoom": dict(height_factor=0.5),
    "Solarization": dict(threshold_factor=0.9),
}
DRAW_NOTHING = ("AutoContrast", "Equalization")
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 12, 12, 3), dtype="uint8")
ALIKE = np.repeat(IMAGES[:1], 16, axis=0)


def augmented(layer, images, step: int = 1) -> np.ndarray:
    """As a training step has it."""
    drawn = augmentation.draw(layer, StepSeed(3, step), len(images))
    return ops.convert_to_numpy(augmentation.apply(layer, ops.convert_to_tensor(images), drawn))


@pytest.mark.parametrize("name", keras_augmentation.BY_ROW)
def test_each_row_is_augmented_by_itself_and_the_same_again(name):
    layer = augmentation.get(getattr(layers, name)(**ARGUMENTS.get(name, {})))
    first = augmented(layer, ALIKE)
    assert (first.shape, first.dtype) == (ALIKE.shape, ALIKE.dtype)
    assert not np.array_equal(first, ALIKE)
    np.testing.assert_array_equal(augmented(layer, ALIKE), first)
    among_others = augmented(layer, np.concatenate([ALIKE[:8], IMAGES[8:]]))
    np.testing.assert_array_equal(among_others[:8], first[:8])  # whatever else is in the step
    if name not in DRAW_NOTHING:
        assert len({image.tobytes() for image in first}) > 1
        assert not np.array_equal(augmented(layer, ALIKE, step=2), first)


def test_a_new_layer_gives_the_same_and_the_layers_own_state_stays():
    one, other = (layers.RandomRotation(0.3, seed=seed) for seed in (1, 2))
    state = ops.convert_to_numpy(one.generator.state)
    generator = one.generator
    np.testing.assert_array_equal(augmented(augmentation.get(one), IMAGES), augmented(augmentation.get(other), IMAGES))
    assert one.generator is generator
    np.testing.assert_array_equal(ops.convert_to_numpy(one.generator.state), state)


@pytest.mark.parametrize("sequence", [keras.Sequential, layers.Pipeline])
def test_layers_one_after_the_other(sequence):
    both = augmentation.get(sequence([layers.RandomFlip("horizontal"), layers.RandomBrightness(0.5)]))
    done = augmented(both, ALIKE).astype(int)
    flipped = [np.corrcoef(image.ravel(), ALIKE[0, :, ::-1].ravel())[0, 1] > 0.9 for image in done]
    assert 0 < sum(flipped) < 16
    assert len({round(image.mean()) for image in done}) > 8  # and each with a brightness of its own


def test_rand_augment_chooses_operations_for_each_image():
    """With one operation, some images are only turned, others only brighter: no batch has one of them alone."""
    layer = layers.RandAugment(num_ops=1, factor=0.5)
    done = augmented(augmentation.get(layer), ALIKE)
    only_values_change = [np.array_equal(np.unique(image), np.unique(ALIKE[0])) for image in done]
    same_place = [
        len({(int(a), int(b)) for a, b in zip(image[..., 0].ravel(), ALIKE[0, ..., 0].ravel(), strict=True)})
        == len(np.unique(ALIKE[0, ..., 0]))
        for image in done
    ]
    assert 0 < sum(same_place) < 16
    assert sum(only_values_change) < 16


def test_equalization_of_one_image_is_keras():
    images = IMAGES.astype("float32")
    images[1] = 7.0  # of one value nothing is spread
    ours = ops.convert_to_numpy(keras_augmentation.equalized(ops.convert_to_tensor(images)))
    for image, one in zip(images, ours, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(layers.Equalization()(image[None]))[0], one)
    # by hand: 0 to 45 in steps of 3 becomes 0 to 255 in steps of 17
    ramp = np.arange(16, dtype="float32").reshape(1, 4, 4, 1) * 3
    spread = ops.convert_to_numpy(keras_augmentation.equalized(ops.convert_to_tensor(ramp)))
    np.testing.assert_array_equal(spread.ravel(), 17 * np.arange(16))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: layers.CutMix(), r"keras.layers.CutMix can't be an `augmentation` .* pass msda='cutmix'"),
        (lambda: layers.MixUp(), "pass msda='mixup'"),
        (lambda: layers.AugMix(), "it draws once for a batch, from Python's generator"),
        (lambda: layers.RandomCrop(4, 4), "use mixmo_keras.augmentation.PadCropFlip"),
        (lambda: layers.RandomGaussianBlur(), "draws its width once for a batch"),
        (lambda: layers.Rescaling(1 / 255), "the model takes raw pixels"),
        (lambda: layers.CenterCrop(4, 4), "those that draw for each image: .*; got CenterCrop"),
        (lambda: keras.Sequential([layers.RandomFlip(), layers.Dense(3)]), "; got Dense"),
        (lambda: keras.Sequential([]), "`augmentation` must hold layers that augment"),
        (lambda: layers.RandomBrightness(0.2, value_range=(0, 1)), r"must have value_range=\(0, 255\), got \[0, 1\]"),
        (lambda: layers.Dense(3), r"called as augment\(images, seed=...\)"),
    ],
)
def test_layers_that_cannot_be_driven_are_refused_with_a_reason(layer, message):
    with pytest.raises(ValueError, match=message):
        mixmo_keras.Batching(augmentation=layer())


def steps_of_training(layer, **options) -> list[np.ndarray]:
    model = tiny.model(augmentation=layer, **options)
    x, y = tiny.data(8)
    model.fit(x, y, batch_size=4, shuffle=False, epochs=1, verbose=0)
    return model.get_weights()


@pytest.mark.slow
def test_a_model_trains_with_them_and_repeats():
    first, again = (steps_of_training(layers.RandomRotation(0.2, seed=seed)) for seed in (1, 2))
    assert tiny.equal_weights(first, again)
    assert not tiny.equal_weights(first, steps_of_training(None))


def test_a_model_with_a_sequence_of_them_is_saved_and_loaded(tmp_path):
    model = tiny.model(augmentation=keras.Sequential([layers.RandomFlip(), layers.RandAugment(num_ops=1)]))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").batching.augment
    assert [type(layer).__name__ for layer in loaded.layers] == ["RandomFlip", "RandAugment"]
    np.testing.assert_array_equal(augmented(loaded, IMAGES), augmented(model.batching.augment, IMAGES))
    assert not [variable.path for variable in model.variables if "seed" in variable.path]


def test_xla_compiles_what_it_has_kernels_for():
    images = tf.constant(IMAGES)
    for layer, compiles in ((layers.RandomContrast(0.5), True), (layers.RandomRotation(0.2), False)):
        augment = augmentation.get(layer)
        assert augment.supports_jit is compiles
        compiled = tf.function(lambda step, augment=augment: augment(images, StepSeed(3, step)), jit_compile=True)
        if compiles:
            assert compiled(tf.constant(1)).shape == images.shape
        else:
            with pytest.raises(tf.errors.InvalidArgumentError):
                compiled(tf.constant(1))


def test_xla_is_refused_for_what_it_cannot_compile():
    model = tiny.model(augmentation=layers.RandomRotation(0.2))
    with pytest.raises(ValueError, match="jit_compile=True can't be combined with augmentation=<RandomRotation"):
        model.compile(jit_compile=True)
    tiny.model(augmentation=layers.RandomContrast(0.2)).compile(jit_compile=True)


def test_xla_that_keras_chose_is_turned_off_and_said():
    model = tiny.model(augmentation=layers.RandomRotation(0.2))
    model.jit_compile = True  # as Keras has it where there is a GPU
    with pytest.warns(UserWarning, match="XLA is off: it has no kernel for augmentation=<RandomRotation"):
        compiling.prepare(model, {})
    assert model.jit_compile is False


@pytest.mark.slow  # a minute to compile
def test_they_train_on_jax_and_repeat():
    printed = tiny.script("jax_keras_augmentation.py", backend="jax")
    assert printed.split() == ["jax", "True", "True"]
