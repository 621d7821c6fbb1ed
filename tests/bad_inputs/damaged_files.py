"""What is in a damaged JSON file, whole or in one place."""

import json

CONTENTS = {
    "nothing": "",
    "a list": "[1]",
    "null": "null",
    "a number": "3",
    "a text": '"x"',
    "half an object": '{"a": ',
    "an empty object": "{}",
    "zeros": "\0" * 50,
    "another object": '{"a": {"b": 1}}',
}
VALUES = (None, "x", [], {}, True, float("nan"))


def at(content, place, value="absent"):
    """A copy of JSON with something else at a place such as "test/ensemble", or nothing."""
    content = json.loads(json.dumps(content))
    *parents, last = place.split("/")
    inner = content
    for name in parents:
        inner = inner[int(name) if isinstance(inner, list) else name]
    last = int(last) if isinstance(inner, list) else last
    if value == "absent":
        del inner[last]
    else:
        inner[last] = value
    return content
