"""M images a pass, in figures: how good the answers are, what an image's partners do to its answer, how fast they come."""

import statistics
from typing import Any

import numpy as np
from scipy.special import softmax

from mixmo_keras import metrics
from mixmo_keras.common import arguments, class_labels
from mixmo_keras.multiplexing import prediction
from mixmo_keras.multiplexing.network import check
from mixmo_keras.networks import speed

PARTNERS = ("any", "same_class", "other_class", "noise")
MOST_PARTNERS = 1000  # draws for an image, whose passes are in memory together
CHUNK = 16  # images whose passes are computed together


def figures(model, logits, ensemble_logits, labels, images, image_labels) -> dict[str, Any]:
    """All that `evaluate` says of M images a pass.

    Args:
        model: The model, with its temperatures.
        logits: Of all test images (n, K), their partners drawn at random, without temperature.
        ensemble_logits: The ensemble's (n, K).
        labels: The right classes (n,).
        images: Some of the test images, for the effect of partners and the speed.
        image_labels: Their right classes.
    """
    calibrated = logits / model.multiplexed_temperature
    return {
        "images_a_pass": model.num_members,
        "network": metrics.network_figures(calibrated, labels),
        "uncalibrated": metrics.network_figures(logits, labels),
        "other_answer_than_ensemble": float(np.mean(logits.argmax(-1) != ensemble_logits.argmax(-1))),
        "partners": partner_figures(model, images, image_labels),
        "images_per_second": _images_per_second(model, images[:64]),
    }


def _images_per_second(model, images) -> dict[str, Any]:
    """Images per second of the fused ensemble and of M images a pass.

    Args:
        model: A `MixMo` that can be multiplexed.
        images: A batch.

    Returns:
        `batch`, its size; `ensemble` and `multiplexed`; `ratio`, the median of the rounds' ratios; `device`.
    """
    networks = {"ensemble": model.fused(), "multiplexed": model.multiplexed()}
    seconds = speed.seconds_in_turn(networks, images, rounds=7)
    return {
        "batch": len(images),
        **{mode: len(images) / statistics.median(map(float, values)) for mode, values in seconds.items()},
        "ratio": speed.times_as_fast(seconds, "ensemble")["multiplexed"],
        "device": speed.device(),
    }


def partner_figures(
    model, images, labels, num_images: int = 100, num_partners: int = 20, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """How much an image's answer depends on the images that share its pass.

    An image keeps its seat and is answered beside random partners of four kinds: any of the images, those of its own
    class, those of others, and noise, of which every pixel is uniform between the least and the greatest of the images'
    pixels. Its usual answer is its most frequent
    one beside partners of any kind.

    Args:
        model: A `MixMo` that can be multiplexed.
        images: (n, H, W, C), n ≥ 2, from which images and partners are drawn.
        labels: Their right classes (n,).
        num_images: Number of images to ask about. Defaults to 100; as many passes as this times `num_partners`, by kind.
        num_partners: Number of draws of partners for each image and kind, at most 1,000. Defaults to 20.
        seed: Of what is drawn. Defaults to 0.

    Returns:
        By kind, over images and draws: `accuracy`; `changed`, the share of answers that are not the image's usual one;
        `ever_changed`, the share of images with such an answer; `confidence_spread`, the standard deviation over draws of
        the usual answer's probability, mean over images; and `images`, how many there were: one that is alone in its class
        has no partner there. `None` for a kind without images.

    Raises:
        ValueError: the model can't be multiplexed, fewer than two images, or labels that don't fit.
    """
    if not hasattr(model, "why_not_multiplexed"):
        raise ValueError(f"`model` must be a mixmo_keras.MixMo, got {model!r}.")
    check(model)
    images = np.asarray(images)
    labels = class_labels.integers("labels", labels, model.num_classes, len(images))
    num_images = arguments.integer("num_images", num_images, least=1)
    num_partners = arguments.integer("num_partners", num_partners, least=1, most=MOST_PARTNERS)
    if len(images) < 2:
        raise ValueError(f"Partners are other images: `images` must be at least 2, got {len(images)}.")
    random = np.random.default_rng(arguments.integer("seed", seed, least=0))
    asked = random.permutation(len(images))[:num_images]
    probabilities = {
        kind: np.concatenate(
            [
                _probabilities(model, images, labels, asked[start : start + CHUNK], kind, num_partners, random)
                for start in range(0, len(asked), CHUNK)
            ]
        )
        for kind in PARTNERS
    }  # (images, draws, K), NaN where there is no partner
    usual = np.stack([(probabilities["any"].argmax(-1) == k).sum(1) for k in range(model.num_classes)]).argmax(0)
    return {kind: _effect(values, usual, labels[asked]) for kind, values in probabilities.items()}


def _probabilities(model, images, labels, asked, kind: str, num_partners: int, random) -> np.ndarray:
    """Of each image asked about beside each draw of partners of a kind: (a, draws, K)."""
    shape = (len(asked), num_partners, model.num_members)
    seats = np.arange(len(asked)) % model.num_members
    alone = np.zeros(len(asked), bool)
    if kind == "noise":
        passes = random.uniform(images.min(), images.max(), (*shape, *model.image_shape))
        passes = (passes.round() if images.dtype.kind in "iu" else passes).astype(images.dtype)
    else:
        partners = np.empty(shape, int)
        for row, index in enumerate(asked):
            possible = np.arange(len(images)) != index
            if kind != "any":
                possible &= (labels == labels[index]) == (kind == "same_class")
            alone[row] = not possible.any()
            partners[row] = index if alone[row] else random.choice(np.flatnonzero(possible), shape[1:])
        passes = images[partners]
    passes[np.arange(len(asked)), :, seats] = images[asked][:, None]
    logits = prediction.predict_passes(model, passes.reshape(-1, model.num_members, *model.image_shape))
    logits = logits.reshape(*shape, -1)[np.arange(len(asked)), :, seats]
    probabilities = softmax(logits.astype("float64") / model.multiplexed_temperature, axis=-1)
    probabilities[alone] = np.nan
    return probabilities


def _effect(probabilities, usual, labels) -> dict[str, Any]:
    there = ~np.isnan(probabilities[:, 0, 0])
    probabilities, usual, labels = probabilities[there], usual[there], labels[there]
    if not len(labels):
        nothing = dict.fromkeys(("accuracy", "changed", "ever_changed", "confidence_spread"))
        return {"images": 0, **nothing}
    answers = probabilities.argmax(-1)
    changed = answers != usual[:, None]
    confidence = np.take_along_axis(probabilities, usual[:, None, None], axis=-1)[..., 0]
    return {
        "images": len(labels),
        "accuracy": float((answers == labels[:, None]).mean()),
        "changed": float(changed.mean()),
        "ever_changed": float(changed.any(1).mean()),
        "confidence_spread": float(confidence.std(1).mean()),
    }
