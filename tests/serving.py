"""What speaks TensorFlow Serving's protocols over a real SavedModel, for the client's tests: the server is a container.

After its REST documentation: `GET /v1/models/NAME` and `.../metadata`, `POST /v1/models/NAME[/versions/N]:predict` in row
format, strings as {"b64": ...}, errors as {"error": ...}; and `Predict` of its gRPC service. As a program with a name and a
folder it serves the model there over REST, and prints its URL.
"""

import base64
import contextlib
import json
import re
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class Model:
    """A SavedModel's newest version."""

    def __init__(self, name: str, folder):
        self.name = name
        self.version = max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
        self.signatures = tf.saved_model.load(str(folder / str(self.version))).signatures

    def predict(self, signature: str, inputs: dict) -> dict[str, np.ndarray]:
        if signature not in self.signatures:
            raise ValueError(f'Serving signature name: "{signature}" not found in signature def')
        function = self.signatures[signature]
        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise ValueError(f"JSON Value: inputs {sorted(inputs)} are not those of the signature, {sorted(specs)}")
        tensors = {key: tf.constant(value, specs[key].dtype) for key, value in inputs.items()}
        return {key: value.numpy() for key, value in function(**tensors).items()}


def _decoded(value):
    """JSON's {"b64": ...} as bytes."""
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    return value


def _as_text(value):
    """Bytes, and those in a list, as texts."""
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # clients that connect at once: by default five, and others ask again a second later


@contextlib.contextmanager
def rest_server(name: str, folder):
    """The URL of a model served over REST, for a while."""
    model = Model(name, folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def answer(self, status: int, content: dict):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            if self.path == f"/v1/models/{name}":
                state = {"version": str(model.version), "state": "AVAILABLE", "status": {"error_code": "OK"}}
                self.answer(200, {"model_version_status": [state]})
            elif self.path == f"/v1/models/{name}/metadata":
                spec = {"name": name, "signature_name": "", "version": str(model.version)}
                signatures = {"signature_def": {"signature_def": {key: {} for key in model.signatures}}}
                self.answer(200, {"model_spec": spec, "metadata": signatures})
            else:
                self.answer(404, {"error": f"Could not find any versions of model {self.path.split('/')[3]}"})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path)
            if not match:
                return self.answer(404, {"error": f"Malformed request: POST {self.path}"})
            if match[1] != name or (match[2] and int(match[2]) != model.version):
                return self.answer(404, {"error": f"Servable not found for request: Latest({match[1]})"})
            try:
                request = json.loads(body)
                rows = request["instances"]
                keys = rows[0].keys()
                inputs = {key: [_decoded(row[key]) for row in rows] for key in keys}
                outputs = model.predict(request.get("signature_name", "serving_default"), inputs)
            except (ValueError, KeyError, TypeError, IndexError, tf.errors.InvalidArgumentError) as error:
                return self.answer(400, {"error": str(error)})
            columns = {key: [_as_text(row) for row in value.tolist()] for key, value in outputs.items()}
            count = len(rows)
            return self.answer(
                200, {"predictions": [{key: columns[key][row] for key in columns} for row in range(count)]}
            )

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/models/{name}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def grpc_server(name: str, folder):
    """The address of a model served over gRPC, for a while."""
    model = Model(name, folder)

    def answer(request, context):
        if request.model_spec.name != name:
            what = f"Servable not found for request: Latest({request.model_spec.name})"
            context.abort(grpc.StatusCode.NOT_FOUND, what)
        try:
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            return model.predict(request.model_spec.signature_name or "serving_default", inputs)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    with grpc_answers(answer) as address:
        yield address


@contextlib.contextmanager
def grpc_answers(answer):
    """The address of a server on loopback that answers arrays by name, or their protocol buffers, to (request, context)."""

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            response = predict_pb2.PredictResponse()
            for key, value in answer(request, context).items():
                response.outputs[key].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
            return response

    server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


if __name__ == "__main__":  # NAME FOLDER: serves until its input ends
    with rest_server(sys.argv[1], Path(sys.argv[2])) as url:
        print(url, flush=True)
        sys.stdin.read()
