"""An encoder in OpenVINO, from the ONNX graph beside this file.

UINT8 [B, H, W, 3] or INT32 [B, T] → unit vectors FP32 [B, D]. The model configuration's parameters say what it
computes in (`inference_precision`, f32 or bf16) and its threads (`inference_num_threads`, 0: all cores).

`openvino_encoder.py`, beside this one, is a copy of that in `protoclip/contract/`, made when the repository was
written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .given_up import GivenUp
from .openvino_encoder import OpenVinoEncoder, OpenVinoError


class TritonPythonModel:
    """One instance of one encoder."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph and runs it once.

        Raises:
            OpenVinoError: no OpenVINO in the server's Python, a graph that it can't load or run, or another
                precision than was compared; Triton then reports the model as unavailable.
        """
        config = json.loads(args["model_config"])
        self._given_up = GivenUp()
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        source, target = config["input"][0], config["output"][0]
        self._input, self._output = source["name"], target["name"]
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        precision, threads = parameters["inference_precision"], int(parameters["inference_num_threads"])
        self._encode = OpenVinoEncoder(path, precision, self._input, self._output, threads)  # type: ignore[arg-type]
        dtype = pb_utils.triton_string_to_numpy(source["data_type"])
        dims = [int(size) for size in source["dims"]]
        # Here, because this server crashes on an error during its own warm-up.
        found, expected = self._encode(np.zeros((1, *dims), dtype)).shape, (1, int(target["dims"][0]))
        if found != expected:
            raise OpenVinoError(f"{self._output!r} has the shape {found}, and config.pbtxt says {expected}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs as one batch all requests that somebody waits for; each gets its own rows of the result."""
        return self._given_up.run(requests, self._run)

    def _run(self, requests: list[Any]) -> list[Any]:
        arrays = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        try:
            rows = self._encode(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        except OpenVinoError as error:
            failure = pb_utils.TritonError(str(error), pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse([], failure) for _ in requests]
        parts = np.split(rows, np.cumsum([len(array) for array in arrays])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor(self._output, part)]) for part in parts]
