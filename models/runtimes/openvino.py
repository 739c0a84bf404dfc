"""The CPU default: OpenVINO over the ONNX file, float32."""

from __future__ import annotations

import numpy as np
import openvino

from models.preprocess import SIDE, Pixels
from models.runtimes import checked
from schemas.events import EMBEDDING_SIZE, Vector
from stream.errors import EncoderBroken


class OpenvinoEncoder:
    """One picture per request, as many requests at once as the machine has streams.

    Measured on two cores against a dynamic batch and static batches of 4 and 8: the throughput of the
    best of them at 32 pictures, the lowest latency of all at 1 to 7, no compilation when a new batch
    size turns up, and an embedding that cannot depend on the company it came in.
    """

    runtime = "openvino"

    def __init__(self, onnx: bytes, model_id: str, threads: int) -> None:
        self.model_id = model_id
        # Without the pin, bfloat16 is taken where the processor has it, and verdicts would depend on the machine.
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            core = openvino.Core()
            model = core.read_model(onnx)
            model.reshape({0: [1, SIDE, SIDE, 3]})
            self._compiled = core.compile_model(model, "CPU", options)
            self._queue = self._new_queue()
        except RuntimeError as error:
            raise EncoderBroken(f"OpenVINO cannot load {model_id}: {error}") from error

    def encode(self, images: Pixels) -> Vector:
        """See `models.encoder.Encoder`."""
        batch = checked(images)
        vectors = np.empty((len(batch), EMBEDDING_SIZE), dtype=np.float32)
        try:
            for number in range(len(batch)):
                self._queue.start_async({0: batch[number : number + 1]}, (vectors, number))
            self._queue.wait_all()
        except RuntimeError as error:
            # A request that failed may still hold its picture; the next call starts with clean ones.
            self._queue = self._new_queue()
            raise EncoderBroken(f"OpenVINO failed on {len(batch)} pictures: {error}") from error
        return vectors

    def _new_queue(self) -> openvino.AsyncInferQueue:
        queue = openvino.AsyncInferQueue(self._compiled)
        queue.set_callback(_keep)
        return queue


def _keep(request: openvino.InferRequest, place: tuple[Vector, int]) -> None:
    """Copy a finished request's embedding to its row of the batch."""
    vectors, number = place
    vectors[number] = request.get_output_tensor().data[0]
