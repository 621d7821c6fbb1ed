"""Reference checkpoints, against a PyTorch network written from the papers' facts."""

import pickle

import numpy as np
import pytest
import tiny

import mixmo_keras
from mixmo_keras.models import reference_checkpoints as interop

torch = pytest.importorskip("torch")

import reference  # noqa: E402

NETWORKS = [
    pytest.param("wrn", 10, 1, 1, 32, id="wrn10_1-1"),
    pytest.param("wrn", 16, 2, 2, 32, id="wrn16_2-2"),
    pytest.param("preact_resnet", 18, 1, 2, 32, id="preact_resnet18_1-2"),
    *(
        pytest.param("wrn", 28, 10, members, 32, id=f"wrn28_10-{members}", marks=pytest.mark.slow)
        for members in (1, 2, 3)
    ),
    *(
        pytest.param(
            "preact_resnet", 18, width, width, size, id=f"preact_resnet18_{width}-{size}", marks=pytest.mark.slow
        )
        for width in (1, 2, 3)
        for size in (32, 64)
    ),
]
NUM_CLASSES = 7


def checkpoint(path, network):
    state = {"epoch": 3, "classifier_state_dict": network.state_dict(), "classifier_optimizer_state_dict": {}}
    torch.save(state, path)
    return path


def normalised(images, family):
    mean, std = ((0.4914, 0.4824, 0.4467), (0.2023, 0.1994, 0.2010)) if family == "wrn" else ((0.5,) * 3, (0.5,) * 3)
    return torch.from_numpy(((images / 255 - np.array(mean)) / np.array(std)).astype("float32")).movedim(-1, -3)


@pytest.mark.parametrize(("family", "depth", "width", "num_members", "size"), NETWORKS)
def test_a_checkpoint_gives_the_same_logits_both_ways(family, depth, width, num_members, size, tmp_path):
    torch.manual_seed(0)
    network = reference.randomised(reference.Reference(family, depth, width, num_members, NUM_CLASSES), 0)
    path = checkpoint(tmp_path / "reference.ckpt", network)
    model = mixmo_keras.load_reference_checkpoint(path, input_shape=(size, size, 3))
    assert (model.num_members, model.num_classes) == (num_members, NUM_CLASSES)
    assert model.average.averaging == "logits"
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, num_members, size, size, 3)).astype("uint8")
    shape = model.encoders.encoders[0].output_shape[1:3]
    masks = random.uniform(size=(2, num_members, *shape, 1)).astype("float32")
    masks /= masks.sum(1, keepdims=True)
    for training in (False, True):
        network.train(training)
        with torch.no_grad():
            expected = network(normalised(images, family), torch.from_numpy(masks).movedim(-1, -3)).numpy()
        logits = model.member_logits(images, masks, training=training)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    # the moving statistics have moved alike, and everything goes back
    interop.save_reference_checkpoint(model, tmp_path / "back.ckpt", epoch=5)
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert back["epoch"] == 5
    state = network.state_dict()
    assert back["classifier_state_dict"].keys() == state.keys()
    for key, value in state.items():
        if "num_batches_tracked" not in key and "running_var" not in key:  # PyTorch's running variance is unbiased
            np.testing.assert_allclose(back["classifier_state_dict"][key], value, rtol=1e-4, atol=1e-4, err_msg=key)
    network.load_state_dict(back["classifier_state_dict"])


@pytest.fixture(scope="module")
def state():
    return reference.Reference("wrn", 10, 1, 2, NUM_CLASSES).state_dict()


class Malicious:
    def __reduce__(self):
        return print, ("this code ran",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("layer2.0.bn1.bias"),
            r"not a checkpoint of wrn10_1 with 2 members: it lacks layer2.0.bn1.bias",
        ),
        (lambda state: state.update(extra=torch.zeros(2)), "it has extra"),
        (lambda state: state.pop("list_conv1.1.weight"), "it lacks list_conv1.1.weight"),
        (
            lambda state: state.update({"layer3.0.conv2.weight": torch.zeros(3, 3, 3, 3)}),
            "layer3.0.conv2.weight has shape",
        ),
        (lambda state: state.clear(), "it has no `fc`, or no residual blocks"),
    ],
)
def test_a_wrong_checkpoint_gives_one_error(change, message, state, tmp_path):
    changed = dict(state)
    change(changed)
    torch.save({"epoch": 0, "classifier_state_dict": changed}, tmp_path / "wrong.ckpt")
    with pytest.raises(ValueError, match=message):
        mixmo_keras.load_reference_checkpoint(tmp_path / "wrong.ckpt")


def test_a_damaged_foreign_or_malicious_file_gives_one_error(state, tmp_path, capsys):
    path = tmp_path / "file.ckpt"
    torch.save({"epoch": 0, "classifier_state_dict": state}, path)
    path.write_bytes(path.read_bytes()[:5000])
    for write in (
        lambda: None,
        lambda: path.write_bytes(b"nothing"),
        lambda: torch.save({"weights": state}, path),
        lambda: path.write_bytes(pickle.dumps(Malicious())),
        lambda: torch.save({"classifier_state_dict": Malicious()}, path),
    ):
        write()
        with pytest.raises(
            ValueError, match=r"is not a checkpoint of MixMo's PyTorch implementation, or a damaged one"
        ):
            mixmo_keras.load_reference_checkpoint(path)
    assert "this code ran" not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="There is no file"):
        mixmo_keras.load_reference_checkpoint(tmp_path / "none.ckpt")


def test_options_reach_the_model(state, tmp_path):
    path = tmp_path / "file.ckpt"
    torch.save({"epoch": 0, "classifier_state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    model = mixmo_keras.load_reference_checkpoint(path, mask="cow", batch_repetitions=2, input_shape=(16, 16, 3))
    assert (model.batching.mixing.mask, model.batching.repetitions, model.image_shape) == ("cow", 2, (16, 16, 3))


def test_models_without_a_counterpart_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has wide and pre-activation ResNets only; this model's layer"):
        interop.save_reference_checkpoint(tiny.model(), tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="this model shares them"):
        interop.save_reference_checkpoint(
            tiny.model(backbone="wrn10_1", input_shape=tiny.SHAPE, share_encoders=True), tmp_path / "a.ckpt"
        )
    with pytest.raises(ValueError, match="strides on the second convolution of a block; this model's are on the first"):
        interop.save_reference_checkpoint(
            tiny.model(backbone="wrn10_1_stride_first", input_shape=tiny.SHAPE), tmp_path / "a.ckpt"
        )
    assert not list(tmp_path.iterdir())
