"""The comparison prints what runs wrote and nothing else."""

import base64

import numpy as np
import pytest
import tiny

from mixmo_keras.experiments import comparison


@pytest.mark.parametrize(
    ("members", "single", "said"),
    [
        (
            [1] * 90 + [0] * 10,
            [1] * 80 + [0] * 20,
            "Use the members: 10.0 ± 3.0 points more accurate than the single network (90.0 % ",
        ),
        (
            [1] * 80 + [0] * 20,
            [1] * 90 + [0] * 10,
            "Use the single network: 10.0 ± 3.0 points more accurate than the members (80.0 % ",
        ),
        (
            [1] * 51 + [0] * 49,
            [1] * 50 + [0] * 50,
            "It can't be said which is more accurate: 51.0 % against 50.0 % of 100 test images, 1.0 ± 1.0 points apart",
        ),
    ],
)
def test_which_of_two_to_use_in_a_sentence(members, single, said):
    text = comparison.verdict(np.array(members, bool), np.array(single, bool))
    assert said in text
    assert text.endswith("One training each: with another seed a small difference may be another.")


def test_what_counts_is_what_the_members_answer_together():
    """By the mean of their probabilities one member that is very sure of a wrong class counts no more than it can."""
    model = tiny.model(num_classes=2, num_members=3, averaging="probabilities")
    model.predict_with_labels = lambda test: (np.array([[[0.0, 9.0], [2.0, 0.0], [2.0, 0.0]]]), np.array([0]))
    assert comparison._answered_rightly(model, None).tolist() == [True]  # 0.59 of class 0; the mean of logits says 1


def evaluation_of(accuracy: float, right=None, count: int = 100) -> dict:
    """The figures of an evaluation, as far as a comparison goes by them."""
    answers = {} if right is None else {"right": base64.b64encode(np.packbits(right).tobytes()).decode()}
    return {"images": {"test": count}, "ensemble": {"accuracy": accuracy}, "answers": answers}


def test_a_verdict_on_the_same_images_counts_those_that_differ():
    right = np.arange(100) < 80
    ours, theirs = evaluation_of(0.8, right), evaluation_of(0.75, right & (np.arange(100) >= 5))
    assert comparison.verdicts({"ours": [ours], "theirs": [theirs]}) == [
        "Most accurate: ours, 80.0% (71.1% to 86.7%).",
        "5.0 ± 2.2 points more accurate than theirs.",
        "Of models with one run, the errors hold for these trained networks; another seed may differ more.",
    ]
    # of other, or unknown, answers the same difference may be chance
    said = comparison.verdicts({"ours": [evaluation_of(0.8)], "theirs": [evaluation_of(0.75)]})
    assert said[1] == "It can't be told from theirs: 5.0 ± 5.9 points more accurate, which may be chance."


def test_a_verdict_over_seeds_counts_their_spread():
    ours, theirs = ([evaluation_of(value, count=100_000) for value in group] for group in ((0.8, 0.9), (0.7, 0.6)))
    said = comparison.verdicts({"theirs": theirs, "ours": ours})
    assert said == [
        "Most accurate: ours, 85.0% (75.2% to 94.8%).",
        "20.0 ± 7.1 points more accurate than theirs.",  # √(0.05² + 0.05²)
    ]


def test_names_are_shortened_to_what_tells_them_apart():
    single, members = "digits-noise0.4-single-msda_cutmix-wrn10_2", "digits-noise0.4-cut_mixmo-wrn10_2"
    short, common = comparison.told_apart([single, members])
    assert short == {single: "single-msda_cutmix", members: "cut_mixmo"}
    assert common == "digits-noise0.4-wrn10_2"
    for whole in (["a-b", "a-b-c"], ["a-b-a", "a-a-b"], ["a"]):  # one would have no name, or another's
        assert comparison.told_apart(whole) == ({name: name for name in whole}, "")
