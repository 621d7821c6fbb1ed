"""The papers' methods, with flat keywords: each is a `MixMo` whose settings they are sorted into.

`defaults` says which keywords a method has and what they are by default, for command lines and tables.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from mixmo_keras.common import arguments
from mixmo_keras.common.settings import keyword_of
from mixmo_keras.mixing.batch import Batching
from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks import backbones
from mixmo_keras.networks.backbones.split import split_for
from mixmo_keras.networks.stochastic_depth import DropPath
from mixmo_keras.tasks import Classification
from mixmo_keras.training import schedules
from mixmo_keras.training.co_training import CoTraining
from mixmo_keras.training.objective import L2

_SETTINGS: dict[str, type] = {"batching": Batching, "drop_path": DropPath, "co_training": CoTraining, "l2": L2}
_OF_MIXMO = {"mixing", "share", "batching"}  # its arguments in place of which the methods have flat keywords
_OF_BINARY_MASKS: tuple[str, ...] = ("mask", "probability", "decay_start")
# keywords without a meaning for one member
_OF_SEVERAL_MEMBERS: tuple[str, ...] = (
    *("num_members", "input_repetition", "repetition_decay", "averaging"),
    *("share_encoders", "share_heads"),
)

AnyBackbone: TypeAlias = str | backbones.Backbone | keras.Model


def build(
    backbone: AnyBackbone,
    mixing: Mixing | None,
    /,
    split_at: str | None = None,
    share_encoders: bool = False,
    share_heads: bool = False,
    joint_fan_in: bool = False,
    **options,
) -> MixMo:
    """A `MixMo` of flat keywords.

    Args:
        backbone: As in `MixMo`.
        mixing: How members are mixed; `None` sums them.
        split_at: Name of the layer of a Keras model behind which members are mixed; see `backbones.split`. Defaults to the
            first convolution and what follows it directly; with `encoder_noise`, to the convolution alone.
        share_encoders: Whether all members use one encoder; an ablation of the paper.
        share_heads: Whether all members use one head; an ablation of the paper. With shared encoders too, what is left is
            manifold MixUp or CutMix of one network, with interpolated labels: `weight_root=1`.
        joint_fan_in: Whether encoders begin as one convolution over all images, as in MIMO's code, where nothing is shared.
        **options: The keywords of `Batching`, `DropPath`, `CoTraining` and `L2`, and the other arguments of `MixMo`.
    """
    if reserved := options.keys() & _OF_MIXMO:
        raise ValueError(f"`{min(reserved)}` is an argument of MixMo, for experts: the methods have flat keywords.")
    if isinstance(backbone, keras.Model):
        backbone = split_for(backbone, split_at, options.get("input_shape"), options.get("encoder_noise"))
    elif split_at is not None:
        raise ValueError(f"`split_at` (={split_at!r}) is for a Keras model as the backbone, got {backbone!r}.")
    share_encoders = arguments.boolean("share_encoders", share_encoders)
    share = "fan_in" if arguments.boolean("joint_fan_in", joint_fan_in) else None
    share = "encoders" if share_encoders else share
    if arguments.boolean("share_heads", share_heads):
        share = "both" if share_encoders else "heads"
    if share == "both" and (mixing is None or mixing.weight_root != 1):
        raise ValueError(
            "`share_encoders` and `share_heads` together leave nothing that tells members apart but their mixed features, "
            "whose labels are interpolated: use CutMixMo or LinearMixMo with weight_root=1."
        )
    settings = {name: _taken(kind, options) for name, kind in _SETTINGS.items()}
    if settings["co_training"].get("label_share") is None:
        teaching = settings["co_training"].get("teaching", CoTraining.teaching)
        if teaching != CoTraining.teaching:
            raise ValueError(f"`teaching` (={teaching!r}) has no meaning without `co_training`.")
        co_training = None
    else:
        co_training = CoTraining(**settings["co_training"])
    return MixMo(
        backbone,
        share=share,
        batching=Batching(mixing=mixing, **settings["batching"]),
        drop_path=DropPath(**settings["drop_path"]),
        co_training=co_training,
        l2=L2(**settings["l2"]),
        **options,
    )


def fields_by_keyword(settings: type) -> dict[str, dataclasses.Field]:
    """The fields of a dataclass of settings by the flat keywords of the methods. `mixing` is no keyword of theirs."""
    return {keyword_of(field): field for field in dataclasses.fields(settings) if field.name != "mixing"}


def _taken(settings: type, options: dict[str, Any]) -> dict[str, Any]:
    """Takes the keywords of a dataclass of settings out of options: their values by the names of its fields."""
    fields = fields_by_keyword(settings)
    return {field.name: options.pop(keyword) for keyword, field in fields.items() if keyword in options}


def CutMixMo(backbone: AnyBackbone = "wrn28_10", **options) -> MixMo:  # noqa: N802, as keras.applications names its models
    """Cut-MixMo, the paper's best: patches of one member's features in the others'.

    Args:
        backbone: As in `MixMo`.
        **options: Of `Mixing` (`mask`, `probability`, `decay_start`, `alpha`, `weight_root`, `unmixing`,
            `predominant_first`), of `Batching`
            (`batch_repetitions`, `already_repeated`, `augmentation`, `shared_augmentation`, `input_repetition`,
            `repetition_decay`, `msda`), of stochastic depth (`drop_path`, `drop_path_ramp`, `efficient_drop_path`), of
            co-training (`co_training`, `teaching`), of L2 (`l2`, `l2_normalization`), `split_at`, `share_encoders`,
            `share_heads`, and `MixMo`'s own.
    """
    return build(backbone, Mixing(**_taken(Mixing, options)), **options)


def LinearMixMo(backbone: AnyBackbone = "wrn28_10", **options) -> MixMo:  # noqa: N802
    """Linear-MixMo: the members' features interpolated, as in MixUp.

    Args:
        backbone: As in `MixMo`.
        **options: As in `CutMixMo`, but for `mask` and what decides when it is used.
    """
    if unused := sorted(options.keys() & set(_OF_BINARY_MASKS)):
        raise ValueError(f"`{unused[0]}` has no meaning for LinearMixMo, whose mask is linear: use CutMixMo.")
    return build(backbone, Mixing("linear", **_taken(Mixing, options)), **options)


MIMO_SETTINGS: dict[str, dict[str, Any]] = {
    "cifar": dict(
        num_members=3,
        input_repetition=0.0,
        batch_repetitions=4,
        averaging="probabilities",
        joint_fan_in=True,
        l2=3e-4,
        l2_normalization=True,
        schedule=schedules.PUBLISHED["mimo"].of(128),  # images a step, of 512 rows
    ),
    "imagenet": dict(
        num_members=2,
        input_repetition=0.6,
        batch_repetitions=2,
        averaging="probabilities",
        joint_fan_in=True,
        l2=1e-4,
        l2_normalization=False,  # kernels and biases only
        schedule=schedules.PUBLISHED["mimo_imagenet"].of(2048),  # of 4,096 rows
    ),
}


def MIMO(backbone: AnyBackbone = "wrn28_10", settings: str = "cifar", **options) -> MixMo:  # noqa: N802
    """MIMO (Havasi et al., ICLR 2021): the members' features summed, equal weights, probabilities averaged.

    Args:
        backbone: As in `MixMo`.
        settings: The paper's hyper-parameters, `"cifar"` or `"imagenet"`: M, ρ, b, L2 and the learning rate, for 128 and for
            2,048 images a batch. See `MIMO_SETTINGS`; recipes/mimo.py has what else belongs to the paper's run on CIFAR.
        **options: As in `CutMixMo`, in place of the settings'. `mixing` is MixMo's and refused.
    """
    arguments.choice("settings", settings, MIMO_SETTINGS)
    if "mixing" in options:
        raise ValueError(
            "`mixing` has no meaning for MIMO, which sums its members: use CutMixMo, LinearMixMo or MixMo."
        )
    return build(backbone, None, **{**MIMO_SETTINGS[settings], **options})


def SingleNetwork(backbone: AnyBackbone = "wrn28_10", batch_repetitions: int = 1, **options) -> MixMo:  # noqa: N802
    """The plain network through the same code: one member, nothing mixed. Arguments as in `CutMixMo`."""
    if "num_members" in options:
        raise ValueError(f"`num_members` (={options['num_members']!r}) has no meaning here: a single network has one.")
    return build(backbone, None, num_members=1, batch_repetitions=batch_repetitions, **options)


def CoSub(  # noqa: N802
    backbone: AnyBackbone = "wrn28_10",
    drop_path: float = 0.2,
    co_training: float = CoTraining.label_share,
    teaching: str = CoTraining.teaching,
    batch_repetitions: int = 1,
    **options,
) -> MixMo:
    """cosub (Touvron et al., CVPR 2023): one network, of which stochastic depth makes two submodels that teach each other.

    A step's rows, after mixing and augmentation, pass twice, so that it costs two steps of the single network.

    Args:
        backbone: As in `MixMo`.
        drop_path: Rate of stochastic depth, the same in every block of a named backbone. Your own backbone brings its
            own: pass 0.
        co_training: λ, the labels' share of the loss.
        teaching: `"softmax"` cross-entropy (the paper) or `"sigmoid"` binary cross-entropy (its code).
        batch_repetitions: As in `Batching`.
        **options: As in `CutMixMo`.
    """
    cosub = dict(drop_path=drop_path, co_training=co_training, teaching=teaching)
    return SingleNetwork(backbone, batch_repetitions, **cosub, **options)


METHODS: dict[str, Callable[..., MixMo]] = {
    "cut_mixmo": CutMixMo,
    "linear_mixmo": LinearMixMo,
    "mimo": MIMO,
    "single": SingleNetwork,
    "cosub": CoSub,
}


def defaults(method: str) -> dict[str, Any]:
    """The keywords of a method, but for `backbone` and what belongs to a data set or a run, with their defaults.

    Args:
        method: A name in `METHODS`.
    """
    function = METHODS[arguments.choice("method", method, METHODS)]
    of_network: dict[str, Any] = {"num_members": inspect.signature(MixMo).parameters["num_members"].default}
    of_network["averaging"] = Classification.averagings[0]
    of_network |= dict(share_encoders=False, share_heads=False)
    mixed = [Mixing] if method in ("cut_mixmo", "linear_mixmo") else []
    fields = {name: field for kind in (*mixed, *_SETTINGS.values()) for name, field in fields_by_keyword(kind).items()}
    of_settings = {keyword: field.default for keyword, field in fields.items()}
    of_signature = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD and name not in ("backbone", "settings")
    }
    found = {**of_network, **of_settings, "co_training": None, **of_signature}
    if method == "mimo":
        found |= {name: value for name, value in MIMO_SETTINGS["cifar"].items() if name != "schedule"}
    left_out = {"linear_mixmo": _OF_BINARY_MASKS, "single": _OF_SEVERAL_MEMBERS, "cosub": _OF_SEVERAL_MEMBERS}
    return {name: value for name, value in found.items() if name not in left_out.get(method, ())}
