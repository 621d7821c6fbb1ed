"""The options of a run in four groups: what each is, its default, its help and its check.

To add an option, add a line to a group. An option of the methods takes its help and its check from the dataclass of its
settings, such as `Mixing`; its default is the method's.
"""

import dataclasses
import functools
import types
import typing

from mixmo_keras import datasets, tasks
from mixmo_keras.common import trained
from mixmo_keras.common.arguments import boolean, choice, integer, number
from mixmo_keras.common.settings import one_of, setting
from mixmo_keras.datasets.label_noise import KINDS, LabelNoise
from mixmo_keras.datasets.resizing import INTERPOLATIONS
from mixmo_keras.experiments import option_values
from mixmo_keras.experiments.option_defaults import Default, default_of, taken_from
from mixmo_keras.experiments.pixel_augmentation import PIXEL_AUGMENTATIONS
from mixmo_keras.metrics.pooling import AVERAGING
from mixmo_keras.mixing import policies
from mixmo_keras.mixing.augmentation import AREA, PADDING_MODES, PadCropFlip
from mixmo_keras.mixing.batch import Batching
from mixmo_keras.mixing.masks import BINARY_MASKS
from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.models.from_classifier import from_classifier
from mixmo_keras.models.methods import METHODS
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks.decoders import DECODERS
from mixmo_keras.networks.stochastic_depth import DropPath
from mixmo_keras.training import distribution, losses, optimizers
from mixmo_keras.training.co_training import CoTraining
from mixmo_keras.training.fine_tuning import FineTuning
from mixmo_keras.training.losses import CrossEntropy
from mixmo_keras.training.objective import L2
from mixmo_keras.training.precision import AUTO
from mixmo_keras.training.schedules import PUBLISHED
from mixmo_keras.training.sharpness import SAM

TRAIN_SPLITS = ("train", "train+validation")
CLASS_WEIGHTS = ("balanced",)
CROPS = ("pad", "resize", "whole")
KEPT = ("last", "best")  # epochs, and names of the files in a run's folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learns from, and how each image is augmented."""

    dataset: str = setting("cifar100", "dataset: " + ", ".join(datasets.DATASETS) + ", or DIR@SIZE", option_values.text)
    task: str | None = one_of(tasks.BY_NAME, None, "what is predicted", " (default: the dataset's)")
    train_split: str = setting(
        "train",
        "images to train on: train; or train+validation, as the papers do, with none held out to choose or calibrate by",
        choice,
        known=TRAIN_SPLITS,
    )
    crop: str = setting(
        "pad",
        "augmentation: pad (random crop after padding), resize (random part of each copy, enlarged), or whole (random part "
        "of the image as it is in its file, resized: the same for its copies)",
        choice,
        known=CROPS,
    )
    padding: int = setting(
        default_of(PadCropFlip, "padding"),
        "augmentation: pixels of padding before the random crop",
        integer,
        least=0,
    )
    padding_mode: str = one_of(
        PADDING_MODES, default_of(PadCropFlip, "padding_mode"), "augmentation: what the padding shows"
    )
    smallest_area: float | None = setting(
        None,
        f"augmentation: least share of the image's area in a random part (default with --crop resize or whole: {AREA[0]:g})",
        number,
        above=0,
        most=AREA[1],
    )
    interpolation: str | None = one_of(
        INTERPOLATIONS,
        None,
        "augmentation: how a random part of a file is resized",
        f" (default with --crop whole: {INTERPOLATIONS[0]})",
    )
    normalization: str = setting(
        "dataset",
        "pixels: normalised as the dataset's are, or unit: from 0 to 1, as MIMO's code has ImageNet's",
        choice,
        known=("dataset", "unit"),
    )
    flip: bool = setting(default_of(PadCropFlip, "flip"), "augmentation: random left-right flips", boolean)
    alternating_flip: bool = setting(
        default_of(PadCropFlip, "alternating"),
        "augmentation: flip an image in every other epoch, not at random",
        boolean,
    )
    shared_augmentation: bool | Default = taken_from(Batching, "shared_augmentation")
    image_size: int | None = setting(
        None, "images brought to so many pixels a side: as @SIZE behind the dataset's name", integer, least=1
    )
    policy: str | None = one_of(
        policies.BY_NAME, None, "augmentation after crop and flip, of each copy on the device, from the run's seed"
    )
    erasing: float | None = setting(
        None, "augmentation: probability, such as 0.25, that a random part is filled with grey", number, above=0, most=1
    )
    color_jitter: float | None = setting(
        None, "augmentation: brightness, contrast and colour by up to this share, such as 0.3", number, above=0, most=1
    )
    pixel_augmentation: str | None = one_of(PIXEL_AUGMENTATIONS, None, "on the CPU, of each copy")
    train_images: int | None = setting(
        None, "learn from so many images alone, chosen at random, and validate on as large a part", integer, least=1
    )
    label_noise: float = setting(
        0.0, "rate of wrong labels among those that are learned and validated by", number, least=0, most=1
    )
    noise_kind: str = setting(
        LabelNoise.kind,
        "wrong labels: symmetric (drawn among all classes) or asymmetric (the class that it is confused with)",
        choice,
        known=KINDS,
    )
    clean_validation: bool = setting(False, "validate by right labels, which are unknown in practice", boolean)
    data_seed: int = setting(0, "seed of the choice of images and of wrong labels", integer, least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """What is trained."""

    method: str = one_of(METHODS, "cut_mixmo", "method")
    backbone: str = setting(
        default_of(MixMo, "backbone"),
        "network, such as wrn28_10 or wrn16_2; or a classifier to begin as, a .keras file; or a pretrained network: "
        "efficientnet_lite0, keras:MobileNetV3Small of keras.applications, or hub:PRESET of keras_hub",
        option_values.text,
    )
    pretrained: bool = setting(
        True, "an efficientnet_lite, keras: or hub: backbone with its trained weights; or begun anew", boolean
    )
    encoder_noise: float | None = setting(
        None,
        "with a trained backbone: by how much members' encoders differ to begin with (default: "
        f"{default_of(from_classifier, 'encoder_noise'):g})",
        number,
        least=0,
    )
    num_members: int | Default = setting(Default.METHOD, "M, members of the ensemble", integer)
    weight_root: float | Default | None = taken_from(Mixing, "weight_root")
    alpha: float | Default | None = taken_from(Mixing, "alpha")
    mask: str | Default = taken_from(Mixing, "mask", check=functools.partial(choice, known=BINARY_MASKS))
    probability: float | Default = taken_from(Mixing, "probability", check=number)
    unmixing: bool | Default = taken_from(Mixing, "unmixing", check=boolean)
    predominant_first: bool | Default = taken_from(Mixing, "predominant_first")
    share_encoders: bool | Default = setting(Default.METHOD, "one encoder for all members, an ablation", boolean)
    share_heads: bool | Default = setting(Default.METHOD, "one head for all members, an ablation", boolean)
    joint_fan_in: bool | Default = setting(
        Default.METHOD, "MIMO's encoders begin as one convolution over all images, as in its code", boolean
    )
    input_repetition: float | Default = taken_from(
        Batching, "input_repetition", f" (of members that begin as a classifier: {trained.INPUT_REPETITION:g})"
    )
    repetition_decay: float | Default = taken_from(Batching, "repetition_decay")
    averaging: str | Default = setting(
        Default.METHOD, "what the ensemble averages: " + ", ".join(AVERAGING), choice, known=AVERAGING
    )
    decoder: str | None = one_of(DECODERS, None, "of a segmentation", " (default: light)")
    decoder_width: int | None = setting(
        None, "channels of a segmentation's decoder; UPerNet's paper has 512 (default: 64)", integer, least=1
    )
    drop_path: float | Default = taken_from(DropPath, "rate")
    efficient_drop_path: bool | Default = taken_from(DropPath, "efficient")
    co_training: float | Default | None = taken_from(CoTraining, "label_share")
    teaching: str | Default = taken_from(CoTraining, "teaching")
    batch_repetitions: int | Default = taken_from(Batching, "repetitions")
    msda: str | None = taken_from(MSDA, "method", default=None)
    msda_probability: float | None = taken_from(
        MSDA, "probability", f" (default with --msda: {MSDA.probability:g})", default=None
    )
    msda_alpha: float | None = taken_from(MSDA, "alpha", f" (default with --msda: {MSDA.alpha:g})", default=None)
    l2: float | Default = taken_from(L2, "rate")
    l2_normalization: bool | Default = taken_from(L2, "normalization")
    dtype: str = setting(
        AUTO,
        "float32, mixed_bfloat16, mixed_float16, or auto: bfloat16 where the hardware makes it faster",
        option_values.text,
    )
    synchronized_batch_norm: bool = setting(
        default_of(MixMo, "synchronized_batch_norm"), "batch norm over the rows of all devices", boolean
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How the model is trained, and on what devices."""

    epochs: int = setting(300, "epochs; warm-up and decay scale with them", integer, least=1)
    scale: float = setting(1.0, "train for this share of the epochs, such as 0.05 for a trial", number, above=0, most=1)
    batch_size: int = setting(64, "rows a step, a multiple of b: batch_size / b images", integer, least=1)
    learning_rate: float | None = setting(
        None,
        "after warm-up (default: the schedule's for 64 images a step, times the images a step by 64: "
        + ", ".join(f"{name} {published.rate:g}" for name, published in PUBLISHED.items())
        + f"; with sgd and a trained backbone that is no network of this library {trained.LEARNING_RATE:g})",
        number,
        above=0,
    )
    optimizer: str | None = setting(
        None,
        "sgd (Nesterov's momentum; the default), adamw or lamb, which need a --learning-rate. With a trained backbone that "
        "is no network of this library: adamw, with values for it and the core, see docs/classifiers.md",
        choice,
        known=optimizers.OPTIMIZERS,
    )
    momentum: float = setting(optimizers.MOMENTUM, "momentum of SGD", number, least=0, below=1)
    weight_decay: float | None = setting(
        None,
        "decoupled decay of kernels, such as 0.05, by this times the learning rate a step: not of biases, norms, positions "
        "and tokens. The default of --l2 is then 0",
        number,
        above=0,
    )
    rates: str | None = setting(
        None,
        "shares of the learning rate by the end of weights' names, such as beta=64,whitening/kernel=0",
        option_values.rates_by_name,
    )
    core_rate: float | None = taken_from(FineTuning, "core_rate", default=None)
    layer_decay: float | None = taken_from(FineTuning, "layer_decay", default=None)
    freeze_epochs: int | None = setting(
        None, "first epochs in which a trained backbone's core stays as it is", integer, least=1
    )
    freeze_batch_norm: bool | None = taken_from(FineTuning, "freeze_batch_norm", default=None)
    schedule: str | None = one_of(PUBLISHED, None, "learning rate", " (default: the method's paper)")
    warmup_epochs: float | None = setting(
        None, "epochs in which the learning rate rises to its value (default: the schedule's)", number, least=0
    )
    loss: str | None = setting(
        None,
        "softmax, sigmoid (binary cross-entropy of each class), or multi_hot: the same with every label above 0 a 1, as in "
        "DeiT's code (default: sigmoid with --teaching sigmoid, else softmax)",
        choice,
        known=losses.BY_NAME,
    )
    label_smoothing: float = setting(
        default_of(CrossEntropy, "label_smoothing"),
        "share of each label that is spread over all classes",
        number,
        least=0,
        below=1,
    )
    class_weights: str | None = setting(
        None,
        "weights of the images' losses by class: balanced, so that all classes count alike however many images they have",
        choice,
        known=CLASS_WEIGHTS,
    )
    clip_norm: float | None = setting(None, "scale gradients down to this norm of all together", number, above=0)
    ema: float | None = setting(
        None,
        "momentum, such as 0.999, of a moving average of the weights to evaluate and keep",
        number,
        above=0,
        below=1,
    )
    average_from: float | None = setting(
        None,
        "share of training, such as 0.75, from which on the mean of the weights is what is evaluated and kept (SWA)",
        number,
        least=0,
        below=1,
    )
    lookahead: int | None = setting(
        None, "steps, such as 5, after which weights are drawn back to a slow average of themselves", integer, least=1
    )
    sam: float | None = setting(
        None, "radius, such as 0.05, of sharpness-aware minimisation: a step takes twice the time", number, above=0
    )
    adaptive_sam: bool = setting(SAM.adaptive, "SAM's radius in units of each weight, such as --sam 0.5", boolean)
    accumulation: int | None = setting(None, "steps whose gradients make one update", integer, least=2)
    jit_compile: bool | None = setting(None, "compile the step with XLA (default: where there is a GPU)", boolean)
    strategy: str = one_of(distribution.STRATEGIES, default_of(distribution.strategy, "name"), "of tf.distribute")
    devices: int | None = setting(
        None,
        "GPUs of this machine to train on, or without GPUs parts of its CPU (default: all GPUs)",
        integer,
        least=1,
    )
    early_stopping: int | None = setting(
        None, "end after so many epochs without a new best on validation images", integer, least=1
    )
    keep: str = setting(
        "last",
        "whose weights are tested, reported and exported: the last epoch's, or the best's on validation images",
        choice,
        known=KEPT,
    )
    warm_start: str | None = setting(
        None,
        "or --begin-with: begin with the weights of this run's folder, .keras file or checkpoint. Positions of a network of "
        "another image size are interpolated, but those of a checkpoint",
        option_values.path,
    )
    seed: int = setting(0, "seed of the initial weights, shuffling, augmentation and mixing", integer, least=0)
    views: int = setting(
        1,
        "judge by the mean answer to so many views of each test image too: 2 with its mirror image, 6 shifted too",
        option_values.views,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a run finds and leaves things, which decides none of its figures and is not in its config.json."""

    data_dir: str | None = setting(
        None, "folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)", option_values.path
    )
    output_dir: str = setting("runs", "folder of the runs", option_values.path)
    export_dir: str = setting("saved_models", "folder of the SavedModels", option_values.path)
    checkpoint_steps: int = setting(
        1000, "steps between checkpoints; one more is written after every epoch", integer, least=1
    )
    fresh: bool = setting(False, "start over, in place of a run of the same name", boolean)


GROUPS = (Data, Model, Training, Folders)


def kinds(field: dataclasses.Field) -> tuple[type, bool]:
    """The type of an option's values, and whether `None` is one of them."""
    union = typing.get_args(field.type) or (field.type,)
    (kind,) = (one for one in union if one not in (types.NoneType, Default))
    return kind, types.NoneType in union
