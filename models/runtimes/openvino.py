"""The CPU default: OpenVINO over the ONNX file, float32."""

from __future__ import annotations

import numpy as np
import openvino

from models.preprocess import SIDE, Pixels
from models.runtimes import checked
from schemas.events import EMBEDDING_SIZE, Vector
from stream.errors import EncoderBroken


class OpenvinoEncoder:
    """One picture per request, as many requests at once as the machine has streams, in turn.

    Measured on two cores against a dynamic batch and static batches of 4 and 8: the throughput of the
    best of them at 32 pictures, the lowest latency of all at 1 to 7, no compilation when a new batch
    size turns up, and an embedding that cannot depend on the company it came in. `AsyncInferQueue` takes a tenth more
    time: its callback waits for the interpreter's lock once a picture.
    """

    runtime = "openvino"

    def __init__(self, onnx: bytes, model_id: str, threads: int) -> None:
        self.model_id = model_id
        # Without the pin, bfloat16 is taken where the processor has it, and verdicts would depend on the machine.
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
        if threads:
            # Else every worker of a machine would have its threads on the same first cores.
            options |= {"INFERENCE_NUM_THREADS": str(threads), "ENABLE_CPU_PINNING": "NO"}
        try:
            core = openvino.Core()
            model = core.read_model(onnx)
            model.reshape({0: [1, SIDE, SIDE, 3]})
            self._compiled = core.compile_model(model, "CPU", options)
            self._requests = self._new_requests()
        except RuntimeError as error:
            raise EncoderBroken(f"OpenVINO cannot load {model_id}: {error}") from error

    def encode(self, images: Pixels) -> Vector:
        """See `models.encoder.Encoder`."""
        batch = checked(images)
        vectors = np.empty((len(batch), EMBEDDING_SIZE), dtype=np.float32)
        turns = len(self._requests)
        try:
            for number in range(len(batch) + turns):
                request = self._requests[number % turns]
                if number >= turns:
                    request.wait()
                    vectors[number - turns] = request.get_output_tensor().data[0]
                if number < len(batch):
                    request.get_input_tensor().data[0] = batch[number]
                    request.start_async()
        except RuntimeError as error:
            # One that failed may still hold its picture; the next call starts with clean ones.
            self._requests = self._new_requests()
            raise EncoderBroken(f"OpenVINO failed on {len(batch)} pictures: {error}") from error
        return vectors

    def _new_requests(self) -> list[openvino.InferRequest]:
        streams = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        return [self._compiled.create_infer_request() for _ in range(streams)]
