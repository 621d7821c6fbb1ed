"""Models saved by an earlier commit load and answer as they did: one small file of each kind.

    python tests/test_earlier_files.py --record KIND      writes the file of a kind and its answers, with today's code

The files in `tests/data/earlier_files/` were written by commit dea22b5. They are useful while they stay old: record a new
kind, but don't record the others again.
"""

import argparse
import os
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tiny

FOLDER = Path(__file__).parent / "data" / "earlier_files"
ANSWERS = FOLDER / "answers.npz"
KINDS = ("mixmo", "mimo", "single", "cosub", "multiplexed", "deep_ensemble", "from_classifier")


def images():
    return tiny.data(n=5)[0]


def answers(model) -> dict[str, np.ndarray]:
    """All that a saved model can be asked: logits of the ensemble and its members, calibrated, and of M images a pass."""
    asked = {"ensemble": model.predict(images(), verbose=0), "members": model.predict_members(images(), verbose=0)}
    if model.why_not_multiplexed() is None:
        asked["several images a pass"] = model.predict_multiplexed(images())
    return asked


@pytest.mark.filterwarnings("ignore:With `input_repetition`")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_an_earlier_commit_answers_as_it_did(kind):
    import keras

    model = keras.models.load_model(FOLDER / f"{kind}.keras")
    recorded = np.load(ANSWERS)
    for name, logits in answers(model).items():
        np.testing.assert_allclose(logits, recorded[f"{kind}: {name}"], rtol=1e-5, atol=1e-5)
    assert model.compiled
    if kind != "deep_ensemble":  # which is not trained
        assert int(model.optimizer.iterations) == 1
        assert any(np.any(momentum) for momentum in model.optimizer.variables[2:])
    if kind == "mixmo":
        model.fit(*tiny.data(), epochs=1, verbose=0)
        assert int(model.optimizer.iterations) == 2


# -- recording -----------------------------------------------------------------------------------------------------------


def made(kind: str):
    """A model of a kind, trained for a step so that it has the state of an optimizer and of batch norm."""
    import keras

    import mixmo_keras

    same = dict(backbone=tiny.backbone(), num_classes=tiny.NUM_CLASSES, batch_repetitions=1, seed=3)
    x, y = tiny.data()
    match kind:
        case "mixmo":
            model = mixmo_keras.CutMixMo(**same, num_members=3, input_repetition=0.25)
        case "mimo":
            model = mixmo_keras.MIMO(**same, averaging="probabilities", input_repetition=0.25)
        case "single":
            model = mixmo_keras.SingleNetwork(**same, msda="cutmix")
        case "cosub":
            model = mixmo_keras.CoSub(**same | dict(backbone=stochastic_backbone(), drop_path=0.0))
        case "multiplexed":
            named = dict(backbone="tiny_4", input_shape=tiny.SHAPE)
            model = mixmo_keras.LinearMixMo(**same | named, multiplexed_temperature=1.5, temperature=0.8)
        case "deep_ensemble":
            seeds = (same | dict(seed=seed) for seed in (3, 4))
            return mixmo_keras.DeepEnsemble([mixmo_keras.LinearMixMo(**options) for options in seeds], temperature=1.2)
        case "from_classifier":
            parts = tiny.backbone()
            logits = keras.layers.Dense(tiny.NUM_CLASSES)(parts.core(parts.encoder.output))
            classifier = keras.Model(parts.encoder.input, logits, name="classifier")
            model = mixmo_keras.from_classifier(classifier, batch_repetitions=1, seed=3, verbose=False)
    model.fit(x, y, epochs=1, verbose=0)
    return model


def stochastic_backbone():
    """`tiny.backbone` with a residual branch that training leaves out at random, as cosub needs."""
    import keras

    import mixmo_keras

    parts = tiny.backbone()
    features = keras.Input(parts.core.input_shape[1:])
    branch = keras.layers.Conv2D(features.shape[-1], 3, padding="same")(features)
    branch = mixmo_keras.StochasticDepth(0.2)(branch)
    core = keras.Model(features, parts.core(features + branch))
    return mixmo_keras.backbones.Backbone(parts.encoder, core)


def compress(path: Path) -> None:
    """Compresses a file of Keras, which stores its parts as they are; they load the same."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def record(kinds) -> None:
    FOLDER.mkdir(exist_ok=True)
    recorded = dict(np.load(ANSWERS)) if ANSWERS.exists() else {}
    for kind in kinds:
        model = made(kind)
        model.save(FOLDER / f"{kind}.keras")
        compress(FOLDER / f"{kind}.keras")
        recorded |= {f"{kind}: {name}": logits for name, logits in answers(model).items()}
    np.savez_compressed(ANSWERS, **recorded)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", nargs="+", choices=KINDS, required=True, help="kinds to write anew")
    record(parser.parse_args().record)
