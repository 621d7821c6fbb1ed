"""Does bfloat16 cost accuracy? Each method in float32 and in bfloat16, on the same images, wrong labels and seeds.

    export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1              so that a run takes one core
    python studies/precision.py digits --noise 0.4 --seeds 0 1 2 --keep   half a minute to a minute a run

The labels are wrong on purpose: on right ones nearly all digits are answered rightly, whatever the precision.
"""

import dataclasses

import gains
import noisy_labels
import pages
from rows import COLUMNS, Measured
from study import Study

from mixmo_keras.experiments import tables
from mixmo_keras.metrics.differences import paired

METHODS = ("single", "MIMO", "Linear-MixMo", "Cut-MixMo", "cosub")
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
KEPT = "precision-digits-0.4"
FORMS = {title: form for title, _, form, _ in COLUMNS} | {"NLL, calibrated": "{:.3f}"}
ROWS = {
    f"{method}, {name}": dataclasses.replace(
        noisy_labels.ROWS[method], changes={**noisy_labels.ROWS[method].changes, "dtype": dtype}
    )
    for method in METHODS
    for name, dtype in PRECISIONS.items()
}
STUDY = Study("precision", {"digits": noisy_labels.DIGITS}, ROWS, folder="runs/precision", ours="Cut-MixMo, bfloat16")


def table(measured: Measured) -> str:
    """A row for each method: accuracy and NLL in both precisions, and bfloat16 less float32, mean ± standard error."""
    titles, head, lines = (gains.ACCURACY, "NLL, calibrated"), ["method"], []
    for title in titles:
        head += [f"{title}, {name}" for name in PRECISIONS] + ["difference"]
    for method in METHODS:
        line = [method]
        for title in titles:
            full, half = (gains.values(measured[f"{method}, {name}"], title) for name in PRECISIONS)
            difference, form = paired(half, full), FORMS[title]
            signed = form.replace(":", ":+")
            line += [tables.cell(full, form), tables.cell(half, form)]
            line += [f"{signed.format(difference.mean)} ± {form.format(difference.error)}"]
        lines.append(line)
    return tables.markdown(head, lines)


def document() -> None:
    """Writes the table of docs/training.md."""
    pages.write("training.md", {KEPT: table(pages.read(KEPT))})


if __name__ == "__main__":
    STUDY.main(__doc__)
