"""Tables over runs: mean ± standard deviation, and Markdown."""

from collections.abc import Iterable, Sequence

from mixmo_keras.metrics.differences import mean_and_deviation

NOTHING = "–"  # in the place of what can't be said


def cell(values: Sequence[float], form: str, deviation: bool = True) -> str:
    """Mean ± standard deviation, the latter where there are several values, in a number format such as `"{:.2f}"`."""
    mean, spread = mean_and_deviation(values)
    text = NOTHING if mean is None else form.format(mean)
    return f"{text} ± {form.format(spread)}" if deviation and spread is not None else text


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], names: int = 1) -> str:
    """A table in Markdown. The first columns, so many as `names`, are aligned to the left, numbers to the right."""
    rule = "|---" * names + "|---:" * (len(header) - names) + "|"
    return "\n".join([_line(header), rule, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
