"""What every method computes, recorded: 20 steps on fixed digits give the losses, weights and predictions that they gave.

    python tests/test_unchanged_numbers.py --record        writes tests/data/unchanged_numbers.npz anew
    python tests/test_unchanged_numbers.py --arrays DIR     writes all arrays
    python tests/test_unchanged_numbers.py --against DIR    compares with what another commit wrote there

Recorded before the package was divided into rooms. A later commit that changes what is computed records anew and says why.
"""

import argparse
import hashlib
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

RECORDED = Path(__file__).parent / "data" / "unchanged_numbers.npz"
STEPS, IMAGES = 20, 8  # images a step; two rows each


def configurations() -> dict[str, tuple[str, dict]]:
    """Every method, with and without CutMix, with one to three members: the name of its class and its arguments."""
    found: dict[str, tuple[str, dict]] = {}
    for msda in (None, "cutmix"):
        ending = "+cutmix" if msda else ""
        for method in ("CutMixMo", "LinearMixMo", "MIMO"):
            for members in (1, 2, 3):
                # encoders begin as they were recorded: by default MIMO's now begin as one convolution
                own = {"joint_fan_in": False} if method == "MIMO" else {}
                found[f"{method}-{members}{ending}"] = (method, dict(num_members=members, msda=msda, **own))
        found[f"SingleNetwork{ending}"] = ("SingleNetwork", dict(msda=msda))
        found[f"CoSub{ending}"] = ("CoSub", dict(msda=msda))
    for members in (2, 3):
        options = dict(num_members=members, drop_path=0.2, co_training=0.5)
        found[f"CutMixMo-{members}-co_training"] = ("CutMixMo", options)
    found["CoSub-sigmoid"] = ("CoSub", dict(teaching="sigmoid"))
    found["CutMixMo-2-repeated_input"] = ("CutMixMo", dict(num_members=2, input_repetition=0.5))
    found["CutMixMo-2-repetition_decay"] = ("CutMixMo", dict(num_members=2, repetition_decay=0.5))
    found["CutMixMo-2-unmixing"] = ("CutMixMo", dict(num_members=2, unmixing=True))
    found["CutMixMo-3-patchup"] = ("CutMixMo", dict(num_members=3, mask="patchup", probability=0.9))
    return found


def digits():
    """160 images (8, 8, 1) to train on and 16 to predict."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    count = STEPS * IMAGES
    return images[:count], labels[:count], images[count : count + 16]


def numbers(name: str) -> dict[str, list[np.ndarray]]:
    """Losses (running means), weights, batch norm's statistics, predictions and member logits after 20 steps."""
    import keras

    import mixmo_keras

    class Losses(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.values = []

        def on_train_batch_end(self, batch, logs=None):
            self.values.append(logs["loss"])

    keras.utils.set_random_seed(0)
    method, options = configurations()[name]
    images, labels, others = digits()
    crop = mixmo_keras.augmentation.PadCropFlip(1, flip=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one member has nobody to mix with
        model = getattr(mixmo_keras, method)(
            backbone="wrn10_1",
            num_classes=10,
            input_shape=(8, 8, 1),
            augmentation=crop,
            batch_repetitions=2,
            seed=7,
            **options,
        )
    losses = Losses()
    model.fit(images, labels, batch_size=IMAGES, shuffle=False, verbose=0, callbacks=[losses])
    statistics = [weight for weight in model.non_trainable_weights if weight.name.startswith("moving")]
    return {
        "losses": [np.array(losses.values, "float32")],
        "weights": [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights],
        "statistics": [keras.ops.convert_to_numpy(weight) for weight in statistics],
        "predictions": [model.predict(others, verbose=0)],
        "members": [model.predict_members(others, verbose=0)],
    }


def summary(arrays: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """What is recorded: losses, predictions, of each weight its mean and its norm, and a digest of every bit."""
    digest = hashlib.blake2b(digest_size=16)
    for group in arrays.values():
        for array in group:
            digest.update(np.ascontiguousarray(array).tobytes())
    of_each = [
        (np.mean(array, dtype="float64"), np.linalg.norm(array.astype("float64")))
        for key in ("weights", "statistics")
        for array in arrays[key]
    ]
    return {
        "losses": arrays["losses"][0],
        "predictions": arrays["predictions"][0],
        "weights": np.array(of_each, "float32"),
        "digest": np.array(digest.hexdigest()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", configurations())
def test_every_method_computes_what_it_computed(name):
    """To rounding, which differs from processor to processor; the digest is of the machine that recorded."""
    with np.load(RECORDED) as recorded:
        expected = {key: recorded[f"{name}/{key}"] for key in ("losses", "predictions", "weights")}
    ours = summary(numbers(name))
    for key, tolerance in (("losses", 1e-4), ("weights", 1e-3), ("predictions", 2e-3)):
        np.testing.assert_allclose(ours[key], expected[key], rtol=tolerance, atol=tolerance, err_msg=key)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--arrays", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(configurations()), default=list(configurations()))
    chosen = parser.parse_args()
    summaries = {}
    for one in chosen.only:
        found = numbers(one)
        summaries |= {f"{one}/{key}": value for key, value in summary(found).items()}
        print(one, summaries[f"{one}/digest"], flush=True)
        flat = {f"{key}/{number}": array for key, group in found.items() for number, array in enumerate(group)}
        if chosen.arrays:
            chosen.arrays.mkdir(parents=True, exist_ok=True)
            np.savez(chosen.arrays / f"{one}.npz", **flat)
        if chosen.against:
            with np.load(chosen.against / f"{one}.npz") as before:
                apart = {key: float(np.abs(array - before[key]).max()) for key, array in flat.items()}
                same = all(np.array_equal(array, before[key]) for key, array in flat.items())
            worst = max(apart, key=lambda key: apart[key])
            print("  same bits" if same else f"  at most {apart[worst]:.1e} apart ({worst})", flush=True)
    if chosen.record:
        RECORDED.parent.mkdir(exist_ok=True)
        np.savez_compressed(RECORDED, **summaries)
