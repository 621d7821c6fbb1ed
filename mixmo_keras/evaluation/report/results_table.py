"""The table of a report: its columns, with their meaning, and its rows."""

from typing import NamedTuple

from mixmo_keras.multiplexing import wording


class Column(NamedTuple):
    """A column of a report's table.

    Attributes:
        title: Its title.
        meaning: What the numbers are.
        more_is_better: Whether higher numbers are better.
        form: The number format.
    """

    title: str
    meaning: str
    more_is_better: bool = False
    form: str = "{:.4f}"


COLUMNS = {  # by the name in `metrics.network_figures`
    "accuracy": Column("accuracy", "share of images that are answered rightly", True, "{:.2%}"),
    "top5": Column("top-5", "share of images whose class is among the five most probable ones", True, "{:.2%}"),
    "nll": Column(
        "NLL", "negative log-likelihood, −log of the right class's probability in nats, mean: punishes sure errors"
    ),
    "brier": Column("Brier", "squared distance of the probabilities from the right answer, 0 to 2"),
    "ece": Column(
        "ECE", "expected calibration error: by how much confidence and accuracy differ, in 15 bins of confidence"
    ),
    "adaptive_ece": Column("adaptive ECE", "the same in 15 bins of equally many images"),
    "classwise_ece": Column("class-wise ECE", "the same for the probability of each class"),
    "errors_auroc": Column("error AUROC", "how well low confidence finds errors: 0.5 is chance, 1 perfect", True),
    "errors_aupr": Column("error AUPR", "the same as average precision, which is the share of errors by chance", True),
    "errors_fpr95": Column("error FPR95", "share of errors that are accepted where 95 % of the right answers are"),
    "aurc": Column("AURC", "share of errors among the most confident images, mean over how many are answered"),
}


def columns(figures: dict) -> dict[str, Column]:
    """The columns that an evaluation needs: with five classes or fewer, the right one is always among the top five."""
    few = len(figures["classes"]) <= 5
    return {name: column for name, column in COLUMNS.items() if not (few and name == "top5")}


def rows(figures: dict) -> list[tuple[str, dict]]:
    """The names and figures of an evaluation's networks: members, their mean, the ensemble without and with temperature."""
    members, temperature = figures["members"], figures["temperature"]["value"]
    named = []
    if len(members) > 1:
        named += [(f"member {number}", member) for number, member in enumerate(members)]
        named += [("members' mean", figures["members_mean"])]
    together = "ensemble" if len(members) > 1 else "network"
    if temperature != 1:
        named += [(together, figures["uncalibrated"])]
        together = f"{together}, T = {temperature:.3f}"
    named += [(together, figures["ensemble"])]
    return named + wording.rows(figures)
