"""The command line of a recipe: the fields of `Recipe` as options, and the options as a `Recipe`."""

import argparse
import dataclasses
from typing import Any

import tensorflow as tf

from mixmo_keras.experiments.options import GROUPS, Default, kinds
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.experiments.run import run
from mixmo_keras.models.methods import METHODS
from mixmo_keras.models.methods import defaults as method_defaults


def main(defaults: Recipe, description: str, arguments: list[str] | None = None) -> dict:
    """Runs `defaults` as changed by the command line. The user's errors end it in one line."""
    try:
        return run(parse(defaults, description, arguments))
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        raise SystemExit(
            "error: another worker was lost. Start this one again with the same command, as all others: the run goes on "
            f"from its last checkpoint. ({error.message.splitlines()[0]})"
        ) from error


def parse(defaults: Recipe, description: str, arguments: list[str] | None = None) -> Recipe:
    """`defaults` with the command line's options in their place. `none` is a value where `None` is one."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given stays the recipe's
    )
    for group in GROUPS:
        section = parser.add_argument_group(group.__name__.lower())
        for field in dataclasses.fields(group):
            _add(section, field, defaults)
    options = vars(parser.parse_args(arguments))
    recipe = defaults.with_method(options["method"]) if "method" in options else defaults
    return dataclasses.replace(recipe, **options)


def _add(section, field: dataclasses.Field, defaults: Recipe) -> None:
    flag = "--" + field.name.replace("_", "-")
    text = _help(field, defaults)
    kind, or_none = kinds(field)
    if kind is bool:
        section.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
    else:
        kind = _or_none(kind) if or_none else kind
        section.add_argument(flag, type=kind, metavar=field.name.split("_")[-1].upper(), help=text)


def _help(field: dataclasses.Field, defaults: Recipe) -> str:
    """What an option is, and its default: where a field's help says what is without it, a recipe's own value instead."""
    text, value = field.metadata["help"], getattr(defaults, field.name)
    if value is None:
        return text
    default = _of_methods(field.name) if value is Default.METHOD else _shown(value)
    return f"{text.partition(' (default')[0]} (default: {default})"


def _of_methods(name: str) -> str:
    """The methods' own values of an option, in one word where all have the same."""
    options = {method: method_defaults(method) for method in METHODS}
    values = {method: _shown(of_method[name]) for method, of_method in options.items() if name in of_method}
    if len(values) == len(METHODS) and len(set(values.values())) == 1:
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
