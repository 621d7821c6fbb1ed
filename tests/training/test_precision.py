"""Which precision is chosen for a machine and a network, and what is said of it."""

import warnings

import keras
import numpy as np
import pytest
import tiny
from keras import layers

import mixmo_keras
from mixmo_keras import backbones
from mixmo_keras.experiments import Recipe
from mixmo_keras.training import precision, steps
from mixmo_keras.training.precision import Precision


@pytest.fixture
def machine(monkeypatch):
    """A machine: the CPU's flags, and whether there is an accelerator that multiplies bfloat16, or one that does not."""

    def become(flags: str = "", accelerator: bool | None = None):
        monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset(flags.split()))
        monkeypatch.setattr(steps, "has_accelerator", lambda: accelerator is not None)
        monkeypatch.setattr(steps, "accelerator_multiplies_bfloat16", lambda: accelerator)

    return become


def network(channels: int) -> backbones.Backbone:
    return tiny.backbone(channels=channels)


def test_width_by_hand():
    images, features = keras.Input((8, 8, 3)), keras.Input((8, 8, 4))
    x = layers.Conv2D(16, 3, padding="same")(features)  # 64 places · 9 · 4 · 16 = 36,864 multiplications of 4 channels
    x = layers.DepthwiseConv2D(3, 2, padding="same")(x)  # 16 · 9 · 16 · 1 = 2,304 of 1, a hundredfold
    x = layers.Dense(32)(layers.GlobalAveragePooling2D()(x))  # 512 of 16
    encoder = keras.Model(images, layers.Conv2D(4, 1)(images))
    expected = (36_864 * 4 + 230_400 * 1 + 512 * 16) / (36_864 + 230_400 + 512)
    assert precision.width(backbones.Backbone(encoder, keras.Model(features, x))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("flags", "accelerator", "backbone", "policy", "reason"),
    [
        ("avx2 amx_bf16", None, "airbench64", "mixed_bfloat16", "the CPU has AMX, and products have 162 channels"),
        ("amx_bf16", None, "wrn10_2", "mixed_bfloat16", "the CPU has AMX, and products have 56 channels"),
        ("avx512_bf16", None, "airbench64", "float32", "the CPU lacks AMX for bfloat16"),
        ("amx_bf16", None, "wrn10_1", "mixed_bfloat16", "products have 28 channels"),
        ("amx_bf16", None, "airbench8", "float32", "products of 15 channels gain little by the CPU's AMX"),
        ("amx_bf16", None, "convnext_atto", "float32", "gain little by the CPU's AMX"),
        ("amx_bf16", None, "regnety_200mf", "float32", "gain little by the CPU's AMX"),
        ("amx_bf16", None, "xcit_nano12_16", "mixed_bfloat16", "the CPU has AMX"),
        ("avx2 amx_int8", None, "wrn10_2", "float32", "the CPU lacks AMX for bfloat16"),
        ("", None, "wrn10_2", "float32", "the CPU lacks AMX for bfloat16"),
        ("amx_bf16", None, "mine.keras", "float32", "was trained already"),
        ("", True, "wrn10_1", "mixed_bfloat16", "the accelerator has units for bfloat16"),
        ("amx_bf16", False, "airbench64", "float32", "compute capability below 8"),
    ],
)
def test_choices(machine, flags, accelerator, backbone, policy, reason):
    machine(flags, accelerator)
    chosen = precision.choose(backbone)
    assert chosen.policy == policy
    assert reason in chosen.reason


def test_a_recipe_resolves_auto_and_keeps_what_was_asked_for(machine):
    machine("amx_bf16")
    assert Recipe(backbone="airbench64").resolved().dtype == "mixed_bfloat16"
    assert Recipe(backbone="airbench64", dtype="float32").resolved().dtype == "float32"
    assert Recipe(backbone="tiny_4").resolved().settings()["dtype"] == "float32"
    assert Recipe(dtype="mixed_float16").precision() == Precision("mixed_float16", "as asked for")


@pytest.mark.parametrize(("dtype", "flags"), [("mixed_bfloat16", "amx_bf16"), ("mixed_float16", "avx512_fp16")])
def test_half_precision_that_is_emulated_warns(machine, dtype, flags):
    model = mixmo_keras.CutMixMo("tiny_4", num_classes=5, input_shape=(8, 8, 3), dtype=dtype, seed=0)
    machine("avx2")
    with pytest.warns(UserWarning, match=rf"computes in {dtype[6:]}.*which this CPU emulates.*none of .*{flags}"):
        model.fit(*tiny.data(4), batch_size=4, verbose=0)
    for machine_has in ({"flags": flags}, {"accelerator": True}):
        machine(**machine_has)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            precision.warn_if_emulated(model.dtype_policy)


def test_members_in_bfloat16_learn_what_they_learn_in_float32():
    """Both precisions follow the same losses, to what rounding of 8 bits leaves."""
    losses = []
    for dtype in ("float32", "mixed_bfloat16"):
        model = mixmo_keras.CutMixMo("tiny_4", num_classes=5, input_shape=(8, 8, 3), dtype=dtype, seed=0, l2=0.0)
        model.compile(keras.optimizers.SGD(0.01, 0.9))
        losses.append(model.fit(*tiny.data(32), batch_size=16, epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
