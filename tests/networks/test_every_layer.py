"""Every layer of the package through the same five checks. A new layer is one row of the table."""

import keras
import layer_harness
import numpy as np
import pytest
import tiny
from layer_harness import Case

import mixmo_keras
from mixmo_keras.mixing import policies
from mixmo_keras.mixing.augmentation import Compose, PadCropFlip, RandomResizedCrop
from mixmo_keras.mixing.three_augment import ColorJitter, ThreeAugment
from mixmo_keras.multiplexing.seats import Answers, Seating
from mixmo_keras.networks.backbones.cross_covariance import ClassAttention, CrossCovarianceAttention, WavePositions
from mixmo_keras.networks.backbones.library_layers import LibraryLayer, description_of
from mixmo_keras.networks.backbones.stems import BehindConvolution
from mixmo_keras.networks.backbones.tokens import ClassToken, LayerScale, PositionEmbedding
from mixmo_keras.networks.backbones.windows import WindowAttention
from mixmo_keras.networks.decoders import MapHead, Resampled
from mixmo_keras.networks.fused_layers import BatchNormalization, FusedGELU
from mixmo_keras.networks.gaussians import GaussianHead, GaussianMixture
from mixmo_keras.networks.layers import MixingBlock, MultiEncoder, MultiHead
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.networks.normalization import Preprocessing
from mixmo_keras.networks.sigmoid_average import SigmoidAverage
from mixmo_keras.networks.stochastic_depth import AddRows, StochasticDepth, TakeRows
from mixmo_keras.networks.temperature import Temperature
from mixmo_keras.networks.views import AverageOfViews, Views

# a layer that averages members is called alone here, not by the step of its model
pytestmark = pytest.mark.filterwarnings("ignore:.*A mixmo_keras model is trained by another model")


def numbers(*shape) -> np.ndarray:
    """Between 0.1 and 1, as no value is special then."""
    return np.random.default_rng(0).uniform(0.1, 1, shape).astype("float32")


def encoders(shared: bool = False, **options) -> MultiEncoder:
    images = keras.Input((4, 6, 3))
    encoder = keras.Model(images, keras.layers.Conv2D(2, 3, padding="same", **options)(images))
    return MultiEncoder(encoder, 3, shared, seed=0, **options)


def preprocessing(**options) -> Preprocessing:
    images = keras.Input((4, 6, 3))
    normalized = keras.layers.Normalization(mean=[0.2, 0.3, 0.4], variance=[1.5, 1.4, 1.3])(images)
    return Preprocessing(keras.Model(images, keras.layers.CenterCrop(2, 4)(normalized)), **options)


def branch_of_some_rows(layer: keras.layers.Layer, case: Case) -> keras.Model:
    """`TakeRows`, a dense layer, `AddRows`, one of which is the layer."""
    take = layer if isinstance(layer, TakeRows) else TakeRows(0.5)
    add = layer if isinstance(layer, AddRows) else AddRows()
    shortcut = keras.Input((3,))
    rows, indices = take(shortcut)
    return keras.Model(shortcut, add(keras.layers.Dense(3)(rows), shortcut, indices))


def library_layer(**options) -> LibraryLayer:
    """A layer of Keras as another library's, with a dense layer within."""
    block = keras.layers.TimeDistributed(keras.layers.Dense(3, **options), **options)
    return LibraryLayer(description_of(block), (4, 3), [], **options)


def three_images_a_pass(layer: keras.layers.Layer, case: Case) -> keras.Model:
    """`Seating`, a dense layer, `Answers`, one of which is the layer."""
    seating = layer if isinstance(layer, Seating) else Seating(3)
    answers = layer if isinstance(layer, Answers) else Answers()
    images = keras.Input((4, 6, 3))
    passes = keras.layers.Reshape((3, 72))(seating(images))
    return keras.Model(images, answers(keras.layers.Dense(5)(passes), images))


def views_and_back(layer: keras.layers.Layer, case: Case) -> keras.Model:
    """`Views`, a dense layer, `AverageOfViews`, one of which is the layer."""
    shown = layer if isinstance(layer, Views) else Views(2)
    average = layer if isinstance(layer, AverageOfViews) else AverageOfViews(2)
    images = keras.Input((4, 6, 3))
    return keras.Model(images, average(keras.layers.Dense(5)(keras.layers.Flatten()(shown(images)))))


MEMBERS, IMAGES = numbers(2, 3, 4, 6, 3), numbers(2, 4, 6, 3)
PIXELS = np.round(255 * numbers(40, 5, 7, 3))
SMALL = keras.initializers.RandomNormal(stddev=0.1, seed=0)
CASES = {
    "MultiEncoder": Case(encoders, (MEMBERS,), (2, 3, 4, 6, 2)),
    "MultiEncoder, one image": Case(encoders, (IMAGES,), (2, 3, 4, 6, 2)),
    "MultiEncoder, shared": Case(lambda **o: encoders(shared=True, **o), (MEMBERS,), (2, 3, 4, 6, 2)),
    "MixingBlock": Case(MixingBlock, (MEMBERS,), (2, 4, 6, 3)),
    "MixingBlock, masks": Case(MixingBlock, (MEMBERS, numbers(2, 3, 4, 6, 1)), (2, 4, 6, 3)),
    "MultiHead": Case(lambda **o: MultiHead(3, 5, **o), (numbers(2, 6),), (2, 3, 5)),
    "MultiHead, shared": Case(lambda **o: MultiHead(3, 5, shared=True, **o), (numbers(2, 6),), (2, 3, 5)),
    "BehindConvolution": Case(
        lambda **o: BehindConvolution(tiny.PatchEmbedding(**o), ["pad", "project"], tiny.SHAPE, **o),
        (numbers(2, 3, 3, 6),),
        (2, 10, 6),
    ),
    "Preprocessing": Case(preprocessing, (MEMBERS,), (2, 3, 2, 4, 3)),
    "Preprocessing, one image": Case(preprocessing, (IMAGES,), (2, 2, 4, 3)),
    "MapHead": Case(
        lambda **o: MapHead(3, 5, (8, 12), width=4, kernel_initializer=SMALL, **o),
        (numbers(2, 4, 6, 3),),
        (2, 3, 8, 12, 5),
        in_float32=True,
    ),
    "MapHead, UPerNet": Case(
        lambda **o: MapHead(3, 5, (8, 12), "upernet", 4, shared=True, kernel_initializer=SMALL, **o),
        (numbers(2, 4, 6, 3),),
        (2, 3, 8, 12, 5),
        in_float32=True,
    ),
    "Resampled": Case(lambda **o: Resampled((8, 9), **o), (numbers(2, 4, 6, 3),), (2, 8, 9, 3)),
    "GaussianHead": Case(lambda **o: GaussianHead(3, 2, **o), (numbers(2, 6),), (2, 3, 2, 2), in_float32=True),
    "GaussianMixture": Case(lambda **o: GaussianMixture(2, 1.5, **o), (numbers(2, 3, 2, 2),), (2, 2, 3)),
    "SigmoidAverage": Case(lambda **o: SigmoidAverage(5, temperature=2.0, **o), (numbers(2, 3, 5),), (2, 5)),
    "MemberAverage": Case(lambda **o: MemberAverage(temperature=2.0, **o), (numbers(2, 3, 5),), (2, 5)),
    "MemberAverage, probabilities": Case(
        lambda **o: MemberAverage("probabilities", 2.0, "members", **o), (numbers(2, 3, 5),), (2, 5)
    ),
    "Seating": Case(lambda **o: Seating(3, **o), (numbers(4, 4, 6, 3),), (2, 3, 4, 6, 3), three_images_a_pass),
    "Answers": Case(Answers, (numbers(2, 3, 5), np.zeros((4, 4, 6, 3), "int32")), (4, 5), three_images_a_pass),
    "Answers, probabilities": Case(
        lambda **o: Answers("probabilities", **o),
        (numbers(2, 3, 5), np.zeros((4, 4, 6, 3), "int32")),
        (4, 5),
        three_images_a_pass,
    ),
    "Temperature": Case(lambda **o: Temperature(2.0, **o), (numbers(2, 5),), (2, 5)),
    "StochasticDepth": Case(lambda **o: StochasticDepth(0.5, **o), (numbers(8, 3),), (8, 3)),
    "TakeRows": Case(lambda **o: TakeRows(0.5, **o), (numbers(4, 3),), ((2, 3), (2,)), branch_of_some_rows),
    "AddRows": Case(
        AddRows,
        (numbers(2, 3), numbers(4, 3), np.array([3, 1], "int32")),
        (4, 3),
        branch_of_some_rows,
    ),
    "BatchNormalization": Case(BatchNormalization, (numbers(4, 3, 5, 2),), (4, 3, 5, 2)),
    "FusedGELU": Case(FusedGELU, (numbers(4, 3),), (4, 3)),
    "Views": Case(lambda **o: Views(2, **o), (IMAGES,), (4, 4, 6, 3), views_and_back),
    "AverageOfViews": Case(lambda **o: AverageOfViews(2, **o), (numbers(4, 5),), (2, 5), views_and_back),
    "PositionEmbedding": Case(PositionEmbedding, (numbers(2, 4, 3),), (2, 4, 3)),
    "ClassToken": Case(ClassToken, (numbers(2, 4, 3),), (2, 5, 3)),
    "WindowAttention": Case(lambda **o: WindowAttention(2, (2, 3), (1, 1), **o), (numbers(2, 4, 6, 12),), (2, 4, 6, 4)),
    "CrossCovarianceAttention": Case(lambda **o: CrossCovarianceAttention(2, **o), (numbers(2, 5, 12),), (2, 5, 4)),
    "ClassAttention": Case(lambda **o: ClassAttention(2, **o), (numbers(2, 5, 12),), (2, 1, 4)),
    "WavePositions": Case(WavePositions, (numbers(2, 4, 6, 3),), (2, 4, 6, 3)),
    "LibraryLayer": Case(library_layer, (numbers(2, 4, 3),), (2, 4, 3)),
    "LayerScale": Case(lambda **o: LayerScale(0.5, **o), (numbers(2, 4, 3),), (2, 4, 3)),
    "PadCropFlip": Case(lambda **o: PadCropFlip(2, **o), (numbers(4, 5, 7, 3),), (4, 5, 7, 3)),
    "RandomResizedCrop": Case(RandomResizedCrop, (numbers(4, 5, 7, 3),), (4, 5, 7, 3)),
    "RandomErasing": Case(policies.RandomErasing, (numbers(4, 5, 7, 3),), (4, 5, 7, 3)),
    # rows enough for some that stay as they are: the others have no gradient, being whole numbers
    "TrivialAugment": Case(policies.TrivialAugment, (PIXELS,), (40, 5, 7, 3)),
    "RandAugment": Case(lambda **o: policies.RandAugment(1, **o), (PIXELS,), (40, 5, 7, 3)),
    "ThreeAugment": Case(ThreeAugment, (PIXELS,), (40, 5, 7, 3)),
    "ColorJitter": Case(ColorJitter, (PIXELS.astype("uint8"),), (40, 5, 7, 3)),  # whole numbers have no gradient
    "AutoAugment": Case(policies.AutoAugment, (PIXELS,), (40, 5, 7, 3)),
    "Compose": Case(
        lambda **o: Compose([PadCropFlip(1), policies.RandomErasing()], **o), (numbers(4, 5, 7, 3),), (4, 5, 7, 3)
    ),
}
every_layer = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


@every_layer
def test_shape(case):
    layer_harness.shape(case)


@every_layer
def test_serialization(case, tmp_path):
    layer_harness.serialization(case, tmp_path)


@every_layer
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision(case, dtype):
    layer_harness.mixed_precision(case, dtype)


@every_layer
def test_gradient(case):
    layer_harness.gradient(case)


@every_layer
def test_one_fit(case):
    layer_harness.one_fit(case)


def test_the_table_has_every_layer():
    registered = keras.saving.get_custom_objects()
    called = {
        kind.__name__
        for name, kind in registered.items()
        if name.startswith("mixmo_keras>")
        and isinstance(kind, type)  # functions are registered too
        and issubclass(kind, keras.layers.Layer)
        and not issubclass(kind, (keras.Model, keras.metrics.Metric))
        and kind.call is not keras.layers.Layer.call
    }
    assert called == {name.split(",")[0] for name in CASES}
    assert mixmo_keras.MultiEncoder in registered.values()
