"""Every check takes what it says, and says what it got."""

import re

import numpy as np
import pytest
from keras import ops

from mixmo_keras.common import arguments

NAN, INF = float("nan"), float("inf")


def test_numbers_become_pythons():
    assert type(arguments.integer("n", np.int64(3), least=1)) is int
    assert type(arguments.number("x", np.float32(0.5), least=0)) is float
    assert type(arguments.number("x", 2)) is float
    assert type(arguments.boolean("flag", np.bool_(True))) is bool
    assert arguments.image_shape("shape", [np.int32(8), 8, 3]) == (8, 8, 3)
    assert arguments.image_size("size", np.array([8, 6])) == (8, 6)
    assert arguments.names("names", np.array(["a", "b"])) == ["a", "b"]
    assert arguments.choice("name", "b", ("a", "b")) == "b"
    assert arguments.instance("x", 1.5, float, "a float") == 1.5


def test_logits():
    assert arguments.logits("logits", [[1, 2]]).dtype == "float64"
    assert arguments.logits("logits", np.zeros((4, 2, 3), "float16"), of_members=True).shape == (4, 2, 3)
    half = ops.convert_to_tensor([[0.5, 2.0]], "bfloat16")
    np.testing.assert_array_equal(arguments.logits("logits", half), [[0.5, 2.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arguments.integer("n", 0, least=1), "`n` must be an integer of at least 1, got 0."),
        (lambda: arguments.integer("n", 2.0), "`n` must be an integer, got 2.0."),
        (lambda: arguments.integer("n", True, least=0), "`n` must be an integer of at least 0, got True."),
        (lambda: arguments.integer("n", "3", least=0, most=5), "`n` must be an integer from 0 to 5, got '3'."),
        (lambda: arguments.integer("n", 6, most=5), "`n` must be an integer of at most 5, got 6."),
        (lambda: arguments.integer("n", None), "`n` must be an integer, got None."),
        (lambda: arguments.number("x", NAN, least=0), "`x` must be a number of at least 0, got nan."),
        (lambda: arguments.number("x", INF, above=0), "`x` must be a positive number, got inf."),
        (lambda: arguments.number("x", "1"), "`x` must be a finite number, got '1'."),
        (lambda: arguments.number("x", True), "`x` must be a finite number, got True."),
        (lambda: arguments.number("x", 1.0, least=0, below=1), "`x` must be a number within [0, 1), got 1.0."),
        (lambda: arguments.number("x", 0, above=0, most=1), "`x` must be a number within (0, 1], got 0."),
        (lambda: arguments.number("x", 1, above=1), "`x` must be a number greater than 1, got 1."),
        (lambda: arguments.number("x", 1, below=1), "`x` must be a number less than 1, got 1."),
        (lambda: arguments.number("x", 2, most=1), "`x` must be a number of at most 1, got 2."),
        (
            lambda: arguments.number("r", -1, above=0, otherwise=", or None for equal weights"),
            "`r` must be a positive number, or None for equal weights, got -1.",
        ),
        (lambda: arguments.boolean("flag", 1), "`flag` must be True or False, got 1."),
        (lambda: arguments.choice("name", "c", ("a", "b")), "`name` must be one of a, b, got 'c'."),
        (lambda: arguments.choice("name", 3, {"a": 1}, ", or a layer"), "`name` must be one of a, or a layer, got 3."),
        (lambda: arguments.names("names", "ab"), "`names` must be a list of names, got 'ab'."),
        (lambda: arguments.names("names", 3), "`names` must be a list of names, got 3."),
        (lambda: arguments.instance("x", 3, str, "a name"), "`x` must be a name, got 3."),
        (lambda: arguments.image_shape("s", (8, 8)), "`s` must be (height, width, channels), integers of at least 1"),
        (lambda: arguments.image_shape("s", 8), "`s` must be (height, width, channels), integers of at least 1, got 8"),
        (
            lambda: arguments.logits("x", [1.0, 2.0]),
            "`x` must be numbers (n, K) of at least one image, got float64 of shape (2,).",
        ),
        (
            lambda: arguments.logits("x", np.zeros((0, 2, 3)), of_members=True),
            "`x` must be numbers (n, M, K) of at least one image, got float64 of shape (0, 2, 3).",
        ),
        (lambda: arguments.logits("x", [["a"]]), "`x` must be numbers (n, K) of at least one image, got <U1 of shape"),
        (
            lambda: arguments.logits("x", [[0, 1], [NAN, 1], [-INF, 0]]),
            "`x` must be finite, got NaN or infinite ones for 2 of 3 images.",
        ),
        (lambda: arguments.image_size("s", (8, 0)), "`s` must be (height, width), integers of at least 1, got (8, 0)"),
        (
            lambda: arguments.image_size("s", (8, 8, 3)),
            "`s` must be (height, width), integers of at least 1, got (8, 8",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
