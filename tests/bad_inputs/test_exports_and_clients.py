"""Where models are exported to, what an exported one is asked, and what servers answer to the client."""

import contextlib
import functools
import shutil
import socket
import threading

import numpy as np
import predict
import pytest
import serving
import tensorflow as tf
from bad_inputs.harness import INF, NAN, LossError, Row, anything_else, booleans, check, each, integers
from PIL import Image

from mixmo_keras.serving import versions
from mixmo_keras.training import checkpoints


def exporting(name):
    return lambda here, value: here.model.export(here.folder / "model", **{name: value})


def existing(make, **options):
    """Exports to version 1, where something is."""

    def call(here):
        path = here.folder / "2023"
        make(path)
        return here.model.export(path, **options)

    return call


def photos(path):
    path.mkdir()
    (path / "holiday.jpg").write_bytes(b"dear to somebody")


def thesis(path):
    path.mkdir()
    for name in ("saved_model.pb", "thesis.docx"):
        (path / name).write_bytes(b"dear to somebody")


def over_a_file(name, format, **options):
    """Exports in a format of one file where one is, and notices its loss."""

    def call(here):
        path = here.folder / name
        path.write_bytes(b"dear to somebody")
        try:
            here.model.export(path, format=format, **options)
        finally:
            if path.read_bytes() != b"dear to somebody":
                raise LossError(f"{path} was replaced")

    return call


def spoiled(here):
    model = here.another_model()
    model.heads.dense.kernel.assign(model.heads.dense.kernel * NAN)
    return model


def saved_spoiled(here):
    path = here.folder / "model.keras"
    spoiled(here).save(path)
    return path


NOT_THERE = "can't be written into"
EXPORTS = [
    Row(
        "export(over photos, overwrite)",
        existing(photos, overwrite=True),
        "must be the folder of a SavedModel to be replaced",
    ),
    Row(
        "export(over a SavedModel and a thesis, overwrite)",
        existing(thesis, overwrite=True),
        "must be the folder of a SavedModel to be replaced, .*thesis.docx",
    ),
    Row("export(over photos)", existing(photos), "exists. Choose another version"),
    Row(
        "export(over a file, overwrite)",
        existing(lambda path: path.write_text("x"), overwrite=True),
        "must be the folder of a SavedModel",
    ),
    *[
        Row(
            f"export({name}, {format}{', overwrite' if options else ''})",
            over_a_file(name, format, **options),
            pattern,
        )
        for name, format, options, pattern in [
            ("m.onnx", "onnx", {}, "m.onnx exists. Choose another path, or pass overwrite=True"),
            ("m.tflite", "litert", {}, "m.tflite exists. Choose another path, or pass overwrite=True"),
            ("m.xml", "openvino", {}, "m.xml exists. Choose another path, or pass overwrite=True"),
            ("m.pt2", "torch", {}, "m.pt2 exists. Choose another path, or pass overwrite=True"),
            ("thesis.docx", "onnx", {"overwrite": True}, "`filepath` must be a file that ends in .onnx to be replaced"),
            ("m.onnx", "litert", {"overwrite": True}, "`filepath` must be a file that ends in .tflite to be replaced"),
            ("m.onnx", "nonsense", {"overwrite": True}, "[Ff]ormat"),
        ]
    ],
    *[
        Row(
            f"export({name})",
            lambda here, options=options: here.model.export(here.folder / "m.tflite", **options),
            message,
        )
        for name, options, message in [
            (
                "int8, no images",
                dict(format="litert", quantize="int8"),
                "needs `representative`, some hundred training",
            ),
            ("int8 for ONNX", dict(format="onnx", quantize="int8"), "apply to format='litert', got format='onnx'"),
            (
                "images, no int8",
                dict(format="litert", representative=np.zeros((2, 8, 8, 1))),
                "`quantize` must be one of",
            ),
            (
                "int4",
                dict(format="litert", quantize="int4", representative=np.zeros((2, 8, 8, 1))),
                "`quantize` must be one of",
            ),
            (
                "int8, images of another size",
                dict(format="litert", quantize="int8", representative=np.zeros((2, 9, 8, 1))),
                r"`representative` must be images \(n, .*\), one at least, got shape \(2, 9, 8, 1\)",
            ),
        ]
    ],
    Row(
        "export(a folder, onnx, overwrite)",
        lambda here: here.model.export(here.folder, format="onnx", overwrite=True),
        "`filepath` must be a file that ends in .onnx to be replaced",
    ),
    *booleans(
        "export(onnx)",
        "overwrite",
        lambda here, value: here.model.export(here.folder / "m.onnx", format="onnx", overwrite=value),
    ),
    *anything_else(
        "export(onnx)",
        "filepath",
        lambda here, value: here.model.export(value, format="onnx"),
        [3, None, ["a"]],
        "`filepath` must be the path of a file",
    ),
    Row(
        "export(below a file)",
        lambda here: [(here.folder / "f").touch(), here.model.export(here.folder / "f" / "1")],
        NOT_THERE,
    ),
    Row(
        "versions.check(below a file)",
        lambda here: [(here.folder / "f").touch(), versions.check(here.folder / "f" / "a" / "1", True)],
        NOT_THERE,
    ),
    Row(
        "versions.check(/proc)", lambda here: versions.check(here.folder.__class__("/proc/nothing/1"), True), NOT_THERE
    ),
    *anything_else(
        "export",
        "path",
        lambda here, value: here.model.export(value),
        [3, None, ["a"]],
        "`path` must be the path of a folder",
    ),
    *anything_else(
        "export",
        "class_names",
        exporting("class_names"),
        ["abcde", 3, [0, 1, 2, 3, 4], [None] * 5],
        "`class_names` must be a list of names",
    ),
    *anything_else(
        "export",
        "class_names",
        exporting("class_names"),
        [["a"], [*"abcdef"]],
        "`class_names` has . names for 5 classes",
    ),
    *anything_else(
        "export",
        "class_names",
        exporting("class_names"),
        [["a", "b", "c", "d", "caf\udce9"], ["a", "b", "c", "d", ""], ["a", "b", "c", "d", " "]],
        "`class_names` must be texts that can be written in UTF-8",
    ),
    *anything_else("export", "class_names", exporting("class_names"), [[*"abcda"]], "`class_names` must be different"),
    Row(
        "export(max_pixels=2**70)", lambda here: exporting("max_pixels")(here, 2**70), "`max_pixels` must be an integer"
    ),
    *booleans("export", "overwrite", exporting("overwrite")),
    *booleans("export", "verbose", exporting("verbose")),
    *integers("export", "max_pixels", exporting("max_pixels"), 4, below=0)[:-3],
    *anything_else("export", "card", exporting("card"), [3, "text", ["a"]], "`card` must be a mapping"),
    *anything_else("export", "format", exporting("format"), ["nonsense", 3, None], "format"),
    Row(
        "export(weights of NaN)",
        lambda here: spoiled(here).export(here.folder / "1"),
        "weights must be finite to be exported, got NaN",
    ),
    Row(
        "export(weights of NaN, onnx)",
        lambda here: spoiled(here).export(here.folder / "m.onnx", format="onnx"),
        "weights must be finite",
    ),
    Row(
        "warm_start(weights of NaN)",
        lambda here: checkpoints.warm_start(here.model, saved_spoiled(here)),
        "holds NaN or infinite weights",
    ),
    Row("warm_start(text)", lambda here: checkpoints.warm_start(here.model, "weights.txt"), "takes a checkpoint"),
    Row(
        "warm_start(nothing there)",
        lambda here: checkpoints.warm_start(here.model, here.folder / "a.npz"),
        "not a checkpoint, or a damaged one",
    ),
    Row(
        "warm_start(no such .keras)",
        lambda here: checkpoints.warm_start(here.model, here.folder / "a.keras"),
        "a.keras",
    ),
]


@each(EXPORTS)
def test_exports(row, here, record_property):
    check(row, here, record_property)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    from bad_inputs.harness import Here

    return Here(None, {}).model.export(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def served(here, exported):
    """The row's `Here`, which knows an exported model."""
    here.exported = exported
    here.signatures = here.once("signatures", lambda: tf.saved_model.load(str(exported)).signatures)
    return here


IMAGES = np.zeros((2, 8, 8, 3), "float32")


def asked(name, images):
    return lambda here: here.signatures[name](images=tf.constant(images))


INVALID = (tf.errors.InvalidArgumentError,)  # the one error that a graph can raise


@each(
    Row(f"{name}(images {kind})", asked(name, images), pattern, INVALID)
    for name in ("serving_default", "members", "multiplexed")
    for kind, images, pattern in [
        ("of NaN", IMAGES * NAN, "Images hold NaN or infinite pixels"),
        ("of infinity", IMAGES + INF, "Images hold NaN or infinite pixels"),
        ("of -infinity", IMAGES - INF, "Images hold NaN or infinite pixels"),
        ("none", IMAGES[:0], "The batch is empty"),
        ("too small", IMAGES[:, :4], r"Images must be \(n, 8, 8, 3\)"),
    ]
)
def test_a_served_model(row, served, record_property):
    check(row, served, record_property)


# -- the client: servers that answer anything ----------------------------------------------------------------------------


@contextlib.contextmanager
def server(answer: bytes, slowly: bool = False):
    """The URL of a server on loopback that gives one answer, whatever it is asked."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(1 << 16)
                if not slowly:
                    connection.sendall(answer)
                for byte in answer if slowly else b"":
                    connection.sendall(bytes([byte]))
                    stop.wait(0.05)

    stop, thread = threading.Event(), threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/digits"
    finally:
        stop.set()
        listening.close()
        thread.join(10)


def http(content: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content) if length is None else length}\r\nConnection: close\r\n\r\n"
    return head.encode() + content


def redirect(place: str) -> bytes:
    return http(b"").replace(b"200 OK\r\n", f"302 Found\r\nLocation: {place}\r\n".encode())


def picture(here):
    path = here.folder / "image.png"
    Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(path)
    return str(path)


def answered(answer):
    def call(here):
        with server(answer) as url:
            return predict.main([picture(here), "--url", url])

    return call


def slow(here):
    with server(http(b" " * 1000), slowly=True) as url:
        return predict.over_rest(url, [b"image"], timeout=0.3)


ONE = b'{"class_name": "a", "confidence": 0.5, "predictive_entropy": 0.1}'
KIND = (
    r"error: http://127.0.0.1:\d+/v1/models/digits:predict answered 200 with .*: expected the predictions of 1 images"
)
BROKEN_OFF = r"error: There is no answer from http://127.0.0.1:\d+/v1/models/digits:predict \(.+\)"
ANSWERS = [
    *[
        Row(f"predict({content!r})", answered(http(content)), KIND)
        for content in [
            *(b"{}", b"null", b"[1]", b"3", b"<html>hello</html>", b"", b"\xff\xfe", b'{"predictions": null}'),
            *(b'{"predictions": []}', b'{"predictions": [1]}', b'{"predictions": [{}]}', b'{"predictions": {"a": 1}}'),
            *(
                b'{"predictions": [' + ONE + b", " + ONE + b"]}",
                *(
                    b'{"predictions": [' + ONE[:-1] + b", " + other + b"}]}"
                    for other in (
                        *(b'"confidence": ' + value for value in (b'"x"', b"NaN", b"7", b"true", b"-1")),
                        *(
                            b'"probabilities": ' + value
                            for value in (b"3", b"[]", b"[NaN, 1]", b"[-1, 2]", b"[0.5, 0.4]", b'["x"]', b"[true]")
                        ),
                        *(b'"mutual_information": ' + value for value in (b"null", b'"x"', b"Infinity")),
                        b'"class_name": "\\ud800"',
                    )
                ),
            ),
        ]
    ],
    Row("predict(brackets in brackets)", answered(http(b"[" * 100_000)), KIND),
    Row(
        "predict(500, brackets in brackets)",
        answered(http(b"[" * 100_000, "500 Oops")),
        "error: The server answered 500",
    ),
    *[
        Row(f"predict(redirected to {place})", answered(redirect(place)), "error: .*(302|answered 302)")
        for place in ("ftp://127.0.0.1:1/a", "file:///etc/hostname")
    ],
    Row("predict(--url '')", lambda here: predict.main([picture(here), "--url", ""]), "error: --url must be the URL"),
    Row(
        "predict(--grpc '')",
        lambda here: predict.main([picture(here), "--grpc", "", "--name", "m"]),
        "error: --grpc must be an address",
    ),
    *anything_else(
        "over_rest",
        "timeout",
        lambda here, value: predict.over_rest("http://127.0.0.1:1", [], timeout=value),
        [float("nan"), -1, 0, "x", None, 1e30],
        "`timeout` must be a positive number of seconds",
    ),
    Row("predict(an answer)", answered(http(b'{"predictions": [' + ONE + b"]}"))),
    Row(
        "predict(503)",
        answered(http(b"busy", "503 Service Unavailable")),
        r"error: The server answered 503: busy \(http",
    ),
    Row(
        "predict(404, HTML)",
        answered(http(b"<html>no</html>", "404 Not Found")),
        r"error: The server answered 404: <html>no</html> \(http",
    ),
    Row("predict(500, nothing)", answered(http(b"", "500 Oops")), r"error: The server answered 500: .*\(http"),
    Row(
        "predict(400, error null)",
        answered(http(b'{"error": null}', "400 Bad")),
        r"error: The server answered 400: .*\(http",
    ),
    Row("predict(breaks off)", answered(http(b'{"predictions": [', length=1000)), BROKEN_OFF),
    Row("predict(500, breaks off)", answered(http(b"x", "500 Oops", length=1000)), BROKEN_OFF),
    Row("predict(closes)", answered(b""), BROKEN_OFF),
    Row("predict(no HTTP)", answered(b"hello\r\n\r\n"), BROKEN_OFF),
    Row("over_rest(a byte now and then)", slow, "There is no answer from .*not complete after 0.3 s"),
    *[
        Row(
            f"predict({url})",
            functools.partial(lambda url, here: predict.main([picture(here), "--url", url]), url),
            pattern,
        )
        for url, pattern in [
            (
                "http://localhost:port/v1/models/a",
                "error: --url must be the URL of a model, .*got 'http://localhost:port",
            ),
            ("http://localhost:99999/v1/models/a", "error: .*http://localhost:99999"),
            ("localhost:8501", "error: .*localhost:8501"),
            ("nonsense", "error: --url must be the URL of a model"),
            ("http://[", "error: --url must be the URL of a model"),
            ("http://a b/", "error: --url must be the URL of a model"),
            ("ftp://localhost/a", "error: .*ftp://localhost"),
            ("file:///etc/hostname", "error: .*file:///etc"),
        ]
    ],
]


@each(ANSWERS)
def test_answers_of_servers(row, here, record_property):
    check(row, here, record_property)


def test_nothing_is_asked_twice(tmp_path):
    """A busy server may have computed the answer already."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        threading.Thread(target=busy, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/digits"
        with pytest.raises(ValueError, match="answered 503"):
            predict.over_rest(url, [b"image"], timeout=5)
        listening.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listening.accept()


def busy(listening):
    connection, _ = listening.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(http(b"busy", "503 Service Unavailable"))


def answered_by_grpc(**changed):
    """Asks a server whose answer is right but for what is changed."""
    outputs = {
        **{name: np.float32([value]) for name, value in (("confidence", 0.5), ("predictive_entropy", 0.7))},
        **dict(class_name=[b"a"], probabilities=np.float32([[0.5, 0.5]])),
        **changed,
    }

    def call(here):
        answer = {name: value for name, value in outputs.items() if value is not None}
        with serving.grpc_answers(lambda request, context: answer) as address:
            return predict.main([picture(here), "--grpc", address, "--name", "m"])

    return call


def one_value_for(*shape):
    """A tensor of one value that stands for all of a shape."""
    proto = tf.make_tensor_proto(np.float32(0.5))
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return proto


OVER_GRPC = r"error: The server at 127.0.0.1:\d+ answered OK with .*: expected the predictions of 1 images"
ANSWERS_OVER_GRPC = [
    Row("over_grpc(an answer)", answered_by_grpc()),
    Row("over_grpc(one value for all)", answered_by_grpc(probabilities=one_value_for(1, 2))),
    *[
        Row(f"over_grpc({name} {kind})", answered_by_grpc(**{name: value}), OVER_GRPC)
        for name, kind, value in [
            *[
                ("confidence", kind, value)
                for kind, value in {
                    **{str(value): np.float32([value]) for value in (NAN, INF, -1, 7)},
                    **{"twice": np.float32([0.5, 0.5]), "(1, 2)": np.float32([[0.5, 0.5]])},
                    **{"one number": np.float32(0.5), "that is missing": None, "of text": [b"0.5"]},
                }.items()
            ],
            ("predictive_entropy", "NaN", np.float32([NAN])),
            ("predictive_entropy", "-1", np.float32([-1])),
            ("mutual_information", "infinite", np.float32([INF])),
            ("class_name", "a number", np.float32([1])),
            ("class_name", "not in UTF-8", [b"caf\xe9"]),
            ("class_name", "missing", None),
            ("probabilities", "NaN", np.float32([[NAN, 1]])),
            ("probabilities", "-1 and 2", np.float32([[-1, 2]])),
            ("probabilities", "summing to 0.9", np.float32([[0.5, 0.4]])),
            ("probabilities", "one number", np.float32([1])),
            ("probabilities", "of none", np.zeros((1, 0), "float32")),
            ("probabilities", "of a terabyte", one_value_for(1, 2**38)),
        ]
    ],
]


@each(ANSWERS_OVER_GRPC)
def test_answers_over_grpc(row, here, record_property):
    check(row, here, record_property)


def damaged(change):
    """Asks a copy of the exported model in which something was changed."""

    def call(here):
        copy = here.folder / "copy" / "1"
        shutil.copytree(here.exported, copy)
        change(copy)
        return predict.main([picture(here), "--saved-model", str(copy.parent)])

    return call


def cut(name, share):
    def change(folder):
        (path,) = folder.glob(name)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return change


LOADED = "error: .*copy/1 is no SavedModel that can be loaded"
SAVED_MODELS = [
    Row("saved model(sound)", damaged(lambda folder: None)),
    Row("saved model(graph cut)", damaged(cut("saved_model.pb", 0.5)), LOADED),
    Row("saved model(graph empty)", damaged(cut("saved_model.pb", 0)), LOADED),
    Row("saved model(weights cut)", damaged(cut("variables/variables.data*", 0.5)), LOADED),
    Row("saved model(index cut)", damaged(cut("variables/variables.index", 0.5)), LOADED),
    Row("saved model(no weights)", damaged(lambda folder: shutil.rmtree(folder / "variables")), LOADED),
    Row(
        "saved model(no graph)",
        damaged(lambda folder: (folder / "saved_model.pb").unlink()),
        "error: There is no SavedModel in",
    ),
]


@each(SAVED_MODELS)
def test_damaged_saved_models(row, served, record_property):
    check(row, served, record_property)
