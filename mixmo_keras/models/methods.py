"""SHIM, to be replaced by the core's `methods`: the papers' methods by name, and their options with their defaults."""

import dataclasses
import functools
import inspect

from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.models import mixmo
from mixmo_keras.models.mixmo import MIMO, CoSub, CutMixMo, LinearMixMo, MixMo, SingleNetwork


def _with_new_names(make):
    @functools.wraps(make)
    def method(*arguments, already_repeated=False, **options):
        return make(*arguments, repeated_data=already_repeated, **options)

    return method


METHODS = {
    "cut_mixmo": _with_new_names(CutMixMo),
    "linear_mixmo": _with_new_names(LinearMixMo),
    "mimo": _with_new_names(MIMO),
    "single": _with_new_names(SingleNetwork),
    "cosub": _with_new_names(CoSub),
}


def defaults(method: str) -> dict:
    found = {name: one.default for name, one in inspect.signature(MixMo).parameters.items()}
    for name in ("backbone", "num_classes", "input_shape", "mixing", "seed", "dtype", "name", "schedule"):
        del found[name]
    mixing = {field.name: field.default for field in dataclasses.fields(Mixing)}
    if method == "cut_mixmo":
        found |= mixing
    if method == "linear_mixmo":
        found |= {name: mixing[name] for name in ("alpha", "weight_root", "unmixing")}
    if method == "mimo":
        found |= {**mixmo.MIMO_SETTINGS["cifar"], "averaging": "probabilities"}
    if method in ("single", "cosub"):
        for name in ("num_members", "input_repetition", "share_encoders", "share_heads"):
            del found[name]
        found["batch_repetitions"] = 1
    if method == "cosub":
        found |= dict(drop_path=0.2, co_training=0.5)
    return found
