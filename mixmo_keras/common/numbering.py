"""The names of classes by their numbers: which have changed since a model learned them."""

from collections.abc import Sequence


def renumbered(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The classes that have other numbers than before, each as a text: `"dog was 1, and is 0"`."""
    numbers = {name: number for number, name in enumerate(before)}
    return [
        f"{name} was {numbers[name]}, and is {number}"
        for number, name in enumerate(now)
        if numbers.get(name, number) != number
    ]


def check_numbers(learned: Sequence[str] | None, names: Sequence[str] | None, model: str) -> None:
    """Raises `ValueError` where classes have other numbers in `names` than those that a model learned them by.

    Names that the model doesn't know are no error: they may be other names of its classes.

    Args:
        learned: The class names of the model, in the order of its outputs; `None` where it has none.
        names: The class names of data, in the order of their labels; `None` where they have none.
        model: The model's name.
    """
    if learned is None or names is None:
        return
    if moved := renumbered(learned, names):
        more = f", … {len(moved) - 3} more" if len(moved) > 3 else ""
        raise ValueError(
            f"{model} learned the classes in another order ({', '.join(moved[:3])}{more}): its answers would get the names "
            "of other classes. Name the classes, or their folders, as they were then."
        )


def check(model, data) -> None:
    """As `check_numbers`, of a dataset that has `class_names`, such as that of a folder."""
    check_numbers(model.class_names, getattr(data, "class_names", None), model.name)


def note(model, data) -> None:
    """Gives a model the `class_names` of a dataset that has some, where it has none yet."""
    names = getattr(data, "class_names", None)
    only_classes = model.task.why_only_classes() is None
    if names is not None and model.class_names is None and only_classes and len(names) == model.num_classes:
        model.class_names = tuple(model.task.names(names))
