"""The kinds of answers that exported models give to an image: of classes, of labels, of numbers.

For `predict.py` and `predict_folder.py`, beside which it lies. Needs nothing but Python.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A kind of answer.

    Attributes:
        outputs: What every answer of this kind has.
        is_right: Whether an answer's values are of their types and in range.
        line: An answer as a line of text.
        cells: An answer as the cells of a table's row, by column.
    """

    outputs: frozenset[str]
    is_right: Callable[[dict], bool]
    line: Callable[[dict], str]
    cells: Callable[[dict], dict[str, str]]


def kind_of(outputs) -> Kind:
    """The kind of an answer, or of the names of a model's outputs.

    Raises:
        ValueError: it is of no kind.
    """
    for kind in KINDS:
        if kind.outputs <= set(outputs):
            return kind
    refuse_label_maps(outputs)
    raise ValueError(f"The model answers with {', '.join(sorted(outputs))}, which are no classes, labels or numbers.")


def refuse_label_maps(outputs) -> None:
    """Raises `ValueError` for an answer, or the names of a model's outputs, that are label maps."""
    if "label_map" in outputs:
        raise ValueError(
            "The model answers with label maps. This client is for classes, labels and numbers: load the SavedModel for "
            "maps, or call its signatures (docs/serving.md)."
        )


def _are_numbers(values, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether values are a list of numbers in a range, but for the rounding of float32."""
    return isinstance(values, list) and all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and least - 0.001 <= one <= most + 0.001
        for one in values
    )


def _is_text(value) -> bool:
    """Whether a value is a text that can be printed: halves of letters can't."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _are_as_many(answer: dict, names: tuple[str, ...]) -> bool:
    """Whether an answer has names, and as many values of each of some outputs."""
    texts = answer["names"]
    if not (isinstance(texts, list) and texts and all(map(_is_text, texts))):
        return False
    return all(isinstance(answer[name], list) and len(answer[name]) == len(texts) for name in names)


# -- a class -----------------------------------------------------------------------------------------------------------


def _is_right_class(answer: dict) -> bool:
    uncertainties = [answer["predictive_entropy"], answer.get("mutual_information", 0)]
    probabilities = answer.get("probabilities", [1])
    return (
        _is_text(answer["class_name"])
        and _are_numbers([answer["confidence"]], 0, 1)
        and _are_numbers(uncertainties, 0)
        and all(map(math.isfinite, uncertainties))
        and _are_numbers(probabilities, 0, 1)
        and abs(sum(probabilities) - 1) <= 0.01
    )


def _line_of_class(answer: dict) -> str:
    line = f"{answer['class_name']}  confidence {answer['confidence']:.1%}, entropy {answer['predictive_entropy']:.3f}"
    if "mutual_information" in answer:  # of several answers to an image
        line += f", mutual information {answer['mutual_information']:.3f}"
    return line


def _cells_of_class(answer: dict) -> dict[str, str]:
    measures = {
        "confidence": answer["confidence"],
        "entropy": answer["predictive_entropy"],
        "mutual_information": answer.get("mutual_information"),
    }
    measures |= {f"probability_{k}": value for k, value in enumerate(answer.get("probabilities", []))}
    shown = {name: "" if value is None else f"{value:.6f}" for name, value in measures.items()}
    return {"class": answer["class_name"], **shown}


# -- labels ------------------------------------------------------------------------------------------------------------


def _are_right_labels(answer: dict) -> bool:
    return (
        _are_as_many(answer, ("probabilities", "labels"))
        and _are_numbers(answer["probabilities"], 0, 1)
        and all(isinstance(one, bool) for one in answer["labels"])
    )


def _held(answer: dict) -> list[str]:
    return [name for name, holds in zip(answer["names"], answer["labels"], strict=True) if holds]


def _line_of_labels(answer: dict) -> str:
    by_name = dict(zip(answer["names"], answer["probabilities"], strict=True))
    shown = [f"{name} {by_name[name]:.1%}" for name in _held(answer)]
    others = sorted(set(by_name) - set(_held(answer)), key=lambda name: -by_name[name])
    highest = f"  (highest of the others: {others[0]} {by_name[others[0]]:.1%})" if others else ""
    return (", ".join(shown) or "none") + highest


def _cells_of_labels(answer: dict) -> dict[str, str]:
    by_name = zip(answer["names"], answer["probabilities"], strict=True)
    return {"labels": "; ".join(_held(answer)), **{f"probability of {name}": f"{value:.6f}" for name, value in by_name}}


# -- numbers -----------------------------------------------------------------------------------------------------------

_OF_NUMBERS = ("mean", "aleatoric_deviation", "epistemic_deviation", "lower", "upper")


def _are_right_numbers(answer: dict) -> bool:
    if not _are_as_many(answer, _OF_NUMBERS) or not all(_are_numbers(answer[name]) for name in _OF_NUMBERS):
        return False
    deviations = answer["aleatoric_deviation"] + answer["epistemic_deviation"]
    return all(map(math.isfinite, answer["mean"])) and all(0 <= one < math.inf for one in deviations)


def _rows_of_numbers(answer: dict) -> list[tuple[str, float, float, float, float]]:
    """Of each number its name, mean, deviation, and the ends of its interval."""
    columns = (answer[name] for name in ("names", *_OF_NUMBERS))
    return [
        (name, mean, math.hypot(aleatoric, epistemic), lower, upper)
        for name, mean, aleatoric, epistemic, lower, upper in zip(*columns, strict=True)
    ]


def _line_of_numbers(answer: dict) -> str:
    return ", ".join(
        f"{name} {mean:.4g} ± {deviation:.2g} ({lower:.4g} to {upper:.4g})"
        for name, mean, deviation, lower, upper in _rows_of_numbers(answer)
    )


def _cells_of_numbers(answer: dict) -> dict[str, str]:
    cells: dict[str, str] = {}
    for name, *values in _rows_of_numbers(answer):
        titles = (name, f"deviation of {name}", f"lower end of {name}", f"upper end of {name}")
        cells |= {title: f"{value:.6g}" for title, value in zip(titles, values, strict=True)}
    return cells


KINDS = (
    Kind(
        frozenset({"class_name", "confidence", "predictive_entropy"}),
        _is_right_class,
        _line_of_class,
        _cells_of_class,
    ),
    Kind(frozenset({"names", "probabilities", "labels"}), _are_right_labels, _line_of_labels, _cells_of_labels),
    Kind(frozenset({"names", *_OF_NUMBERS}), _are_right_numbers, _line_of_numbers, _cells_of_numbers),
)


def is_answer(answer: Any) -> bool:
    """Whether an answer to an image is of a kind, and its values are right.

    Raises:
        ValueError: it is a label map.
    """
    if not isinstance(answer, dict):
        return False
    refuse_label_maps(answer)
    return any(kind.outputs <= answer.keys() and kind.is_right(answer) for kind in KINDS)
