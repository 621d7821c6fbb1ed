"""The command line of a recipe: the fields of `Recipe` as options, and the options as a `Recipe`."""

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from mixmo_keras.common import files
from mixmo_keras.common.console import unbreakable
from mixmo_keras.datasets import registry
from mixmo_keras.experiments.option_defaults import Default
from mixmo_keras.experiments.options import GROUPS, kinds
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.experiments.running import run
from mixmo_keras.models import methods

# what --help shows first: the options that most runs are about
MOST_USED = (
    "dataset",
    "method",
    "backbone",
    "num_members",
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
    "data_dir",
    "output_dir",
)
BEST = "begin with the settings and the cost of the best run that we can think of: see above"


@unbreakable()
def main(defaults: Recipe, description: str, arguments: list[str] | None = None, best: Recipe | None = None) -> dict:
    """Runs `defaults`, or where there is one and `--best` is given `best`, as changed by the command line.

    The user's errors end it in one line.
    """
    flags = {} if best is None else {"best": BEST}
    recipe, given = parse_with(defaults, description, arguments, flags=flags)
    if best is not None and given["best"]:
        recipe, _ = parse_with(best, description, arguments, flags=flags)
    with errors_in_one_line():
        return run(recipe)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Ends the program in one line for what its user can mend."""
    try:
        yield
    except UnicodeEncodeError as error:  # the console takes any character: see `common.console`
        raise SystemExit(f"error: {files.NOT_UTF_8}") from error
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error
    except RuntimeError as error:  # TensorFlow's own may be among them
        raise SystemExit(f"error: {_lost_worker(error) or error}") from error
    except Exception as error:
        if said := _lost_worker(error):
            raise SystemExit(f"error: {said}") from error
        raise


def _lost_worker(error: Exception) -> str | None:
    if not isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
        return None
    return (
        "another worker was lost. Start this one again with the same command, as all others: the run goes on "
        f"from its last checkpoint. ({error.message.splitlines()[0]})"
    )


def parse(defaults: Recipe, description: str, arguments: list[str] | None = None) -> Recipe:
    """`defaults` with the command line's options in their place. `none` is a value where `None` is one."""
    return parse_with(defaults, description, arguments)[0]


def parse_with(
    defaults: Recipe,
    description: str,
    arguments: list[str] | None = None,
    folder: str | None = None,
    flags: Mapping[str, str] | None = None,
) -> tuple[Recipe, dict[str, bool]]:
    """`parse`, and what else a recipe's command line has.

    Args:
        defaults: The recipe.
        description: What `--help` begins with.
        arguments: The command line. Defaults to the process' own.
        folder: The help of the dataset's folder, where that is what the command line must name, before its options, between
            them or behind; `--dataset` is left out then. Defaults to none.
        flags: Help by name of what is on or off and no field of `Recipe`.

    Returns:
        The recipe, and by name whether a flag was given.
    """
    parser = argparse.ArgumentParser(
        usage=f"%(prog)s {'' if folder is None else 'DIR '}[options]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given stays the recipe's
    )
    flags = {} if flags is None else flags
    fields = {group.__name__.lower(): dataclasses.fields(group) for group in GROUPS}
    by_name = {field.name: field for of_group in fields.values() for field in of_group}
    if folder is not None:
        parser.add_argument("dataset", metavar="DIR", help=folder)
        del by_name["dataset"]
    first = parser.add_argument_group("most used")
    for name in MOST_USED:
        if name in by_name:
            _add(first, by_name.pop(name), defaults)
    for name, text in flags.items():
        first.add_argument("--" + name.replace("_", "-"), action="store_true", help=text)
    for group, of_group in fields.items():
        section = parser.add_argument_group(group)
        for field in of_group:
            if field.name in by_name:
                _add(section, field, defaults)
    options = vars(parser.parse_args(arguments))
    given = {name: options.pop(name, False) for name in flags}
    if {"dataset", "image_size"} <= options.keys():
        path, size = registry.path_and_size(options["dataset"])
        if path != options["dataset"] and size != (options["image_size"],) * 2:
            parser.error(
                f"{options['dataset']} names another size than --image-size {options['image_size']}: give one."
            )
    recipe = defaults.with_method(options["method"]) if "method" in options else defaults
    return dataclasses.replace(recipe, **options), given


def _add(section, field: dataclasses.Field, defaults: Recipe) -> None:
    flags = ["--" + field.name.replace("_", "-"), *(["--begin-with"] if field.name == "warm_start" else [])]
    text = _help(field, defaults)
    kind, or_none = kinds(field)
    if kind is bool:
        section.add_argument(*flags, action=argparse.BooleanOptionalAction, help=text)
    else:
        kind = _or_none(kind) if or_none else kind
        section.add_argument(*flags, type=kind, metavar=field.name.split("_")[-1].upper(), help=text)


def _help(field: dataclasses.Field, defaults: Recipe) -> str:
    """What an option is, and its default: where a field's help says what is without it, a recipe's own value instead."""
    text, value = field.metadata["help"], getattr(defaults, field.name)
    if value is None:
        return text
    default = _of_methods(field.name) if value is Default.METHOD else _shown(value)
    return f"{text.partition(' (default')[0]} (default: {default})"


def _of_methods(name: str) -> str:
    """The methods' own values of an option, in one word where all have the same."""
    options = {method: methods.defaults(method) for method in methods.METHODS}
    values = {method: _shown(of_method[name]) for method, of_method in options.items() if name in of_method}
    if len(values) == len(options) and len(set(values.values())) == 1:
        return next(iter(values.values()))
    return f"{Default.METHOD}: {', '.join(f'{method} {value}' for method, value in values.items())}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value}"


def _or_none(kind: type):
    def convert(text: str):
        return None if text.lower() == "none" else kind(text)

    convert.__name__ = kind.__name__  # argparse names it where a text can't be converted
    return convert
