"""One-line results that don't fit the report's table."""

from mixmo_keras.evaluation import label_issues
from mixmo_keras.metrics.summaries import formatted
from mixmo_keras.multiplexing import wording

MOST_CLASSES = 24  # of which each has a line
TERMS = {  # what the terms in these lines mean
    "balanced accuracy": "mean over classes of the share of their images that are answered rightly: all classes count alike",
    "AUROC": "how well a class's probability tells its images from all others: 0.5 is chance, 1 perfect",
    "threshold": "of two classes, the probability from which one is answered, for the highest balanced accuracy",
    "NLL_c": "apart from calibration, which one number mends: for comparing networks",
    "ratio of errors": "errors of one member alone over errors of both: the higher, the more different members are",
    "disagreement": "share of images on which members answer differently",
    "Q": "Yule's Q of two members' errors: 1 if they err on the same images, 0 if by chance",
    "KL": "Kullback-Leibler divergence of two members' probabilities, in nats",
    "mutual information": "how much members disagree about an image, in nats; high where the model should not be trusted",
    "conformal": "sets of classes that hold the right one in a share of images that is asked for",
}


def lines(figures: dict) -> list[str]:
    """The results beside the table, a line each; a line that begins with spaces belongs to the line before."""
    return [
        *_calibration(figures),
        *_classes(figures),
        *_diversity(figures),
        *_conformal_sets(figures),
        *wording.lines(figures),
        *_detection(figures),
        *_corruptions(figures),
        *_other_test_sets(figures),
        *_labels(figures),
    ]


def _calibration(figures: dict) -> list[str]:
    lines, temperature = [], figures["temperature"]
    if figures.get("trained_on_validation"):
        lines.append("trained on the validation images too, so that nothing was fitted on them")
    if temperature["fitted_on"]:
        noise = temperature.get("label_noise")
        known = "" if noise is None else "estimated with it" if noise["estimated"] else "known"
        under = "" if noise is None else f", of whose labels a rate of {noise['rate']:.2f} ({known}) are drawn anew"
        lines.append(
            f"temperature {temperature['value']:.3f}, fitted on {temperature['fitted_on']:,} validation images{under}"
        )
    if refused := temperature.get("not_applied"):
        fitted = "" if refused["value"] is None else f" {refused['value']:.3f}"
        lines.append(f"temperature{fitted} not applied: {refused['why']}")
    if also := temperature.get("also_fitted"):
        lines.append(f"{also['what']} fitted on {also['on']:,} validation images")
    if not temperature["fitted_on"] and temperature["value"] != 1:
        lines.append(f"temperature {temperature['value']:.3f}, as saved with the model")
    if figures.get("nll_c") is not None:
        lines.append(f"NLL_c {figures['nll_c']:.4f}: each half of the test images under the other half's temperature")
    return lines


def _classes(figures: dict) -> list[str]:
    """Figures that count all classes alike, and those of a threshold; none of an earlier version."""
    if "balanced" not in figures:
        return []
    balanced = figures["balanced"]
    lines = [
        f"classes alike: balanced accuracy {formatted(balanced['balanced_accuracy'], '{:.2%}')}, "
        f"F1 {formatted(balanced['f1'], '{:.4f}')}, AUROC {formatted(balanced['auroc'], '{:.4f}')}; as many right answers "
        f"by chance: p = {figures['by_chance']:.2g}"
    ]
    if len(figures["classes"]) <= MOST_CLASSES:
        lines.append(" images recall precision    F1 AUROC class")  # narrow: a phone shows 45 characters
        cells = {"accuracy": ("{:.1%}", 7), "precision": ("{:.1%}", 10), "f1": ("{:.3f}", 6), "auroc": ("{:.3f}", 6)}
        for one in figures["classes"]:
            shown = "".join(f"{formatted(one[name], form):>{width}}" for name, (form, width) in cells.items())
            lines.append(f" {one['images']:>6,}{shown} {one['name']}")
    if threshold := figures.get("threshold"):
        first, second = threshold["recall"]
        applied = "--threshold exports the model with it"
        if threshold.get("applied"):
            applied = "what is saved or exported answers by it, the table by the most probable class"
        lines.append(
            f"threshold {threshold['value']:.3f} of {threshold['class']}, chosen on {threshold['fitted_on']:,} validation "
            f"images: balanced accuracy {threshold['balanced_accuracy']:.2%}, recall {formatted(first, '{:.1%}')} and "
            f"{formatted(second, '{:.1%}')}, accuracy {threshold['accuracy']:.2%}; {applied}"
        )
    return lines


def _diversity(figures: dict) -> list[str]:
    if len(figures["members"]) == 1 or "diversity" not in figures:
        return []
    diversity = figures["diversity"]
    return [
        f"diversity: ratio of errors {formatted(diversity['ratio_of_errors'], '{:.3f}')}, "
        f"disagreement {formatted(diversity['disagreement'], '{:.2%}')}, Q {formatted(diversity['q_statistic'], '{:.3f}')}, "
        f"KL {formatted(diversity['pairwise_kl'], '{:.3f}')}, mutual information {diversity['mutual_information']:.4f}"
    ]


def _conformal_sets(figures: dict) -> list[str]:
    if "conformal" not in figures:
        return []
    conformal = figures["conformal"]
    if "undecided" in conformal:
        return [
            f"conformal sets of each label: {conformal['coverage']:.2%} of the right answers in them, "
            f"{conformal['undecided']:.2%} hold both answers (asked: {conformal['coverage_asked']:.0%}, fitted on "
            f"{conformal['fitted_on']:,} validation images)"
        ]
    return [
        f"conformal {method.upper()}: {conformal[method]['coverage']:.2%} of the right classes in sets of "
        f"{conformal[method]['mean_size']:.2f} classes (asked: {conformal['coverage_asked']:.0%}, fitted on "
        f"{conformal['fitted_on']:,} validation images)"
        for method in ("thr", "aps")
    ]


def _detection(figures: dict) -> list[str]:
    if "out_of_distribution" not in figures:
        return []
    elsewhere = figures["out_of_distribution"]
    lines = [f"told from {elsewhere['images']:,} images of {elsewhere['dataset']}, AUROC / AUPR / FPR95:"]
    for measure, values in elsewhere["measures"].items():
        cells = " / ".join(formatted(values[key], "{:.4f}") for key in ("auroc", "aupr", "fpr95"))
        lines.append(f"    {measure.replace('_', ' '):<20}{cells}")
    return lines


def _corruptions(figures: dict) -> list[str]:
    if "corruptions" not in figures:
        return []
    corrupted = figures["corruptions"]
    return [
        f"under {len(corrupted['accuracy'])} corruptions at 5 severities ({corrupted['images']:,} images each): "
        f"mean accuracy {corrupted['mean_accuracy']:.2%}, mean NLL {corrupted['mean_nll']:.4f}, "
        f"mean ECE {corrupted['mean_ece']:.4f}"
        + (f", mCE {100 * corrupted['mean_corruption_error']:.1f}" if "mean_corruption_error" in corrupted else "")
    ]


def _other_test_sets(figures: dict) -> list[str]:
    lines = []
    for name, values in figures.get("other_test_sets", {}).items():
        among = values.get("accuracy_among_its_classes")
        lines.append(
            f"{name} ({values['images']:,} images of {values['classes']:,} classes): accuracy {values['accuracy']:.2%}"
            + (f" ({among:.2%} among its classes)" if among is not None else "")
            + f", NLL {values['nll']:.4f}, ECE {values['ece']:.4f}"
        )
    return lines


def _labels(figures: dict) -> list[str]:
    if "label_issues" not in figures:
        return []
    issues = figures["label_issues"]
    lines = [f"labels of {issues['images']:,} training images: {issues['contradicted']:,} are not what is predicted"]
    if "wrong" in issues:
        lines.append(
            f"finding the {issues['wrong']:,} that are wrong, AUROC / average precision / found among as many:"
        )
        for measure in label_issues.MEASURES:
            values = issues[measure]
            cells = " / ".join(formatted(values[key], "{:.4f}") for key in ("auroc", "aupr", "found"))
            lines.append(f"    {measure.replace('_', ' '):<20}{cells}")
    return lines
