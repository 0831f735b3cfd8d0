"""What Triton's Python backend runs: batches of requests with frames and boxes, by `PoseEstimator.stream`.

Triton loads it through the `model.py` that `write_frames_model` writes; the class has the name and the methods that its
Python backend wants.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PosertError
from ..estimator import PoseEstimator
from ..pose.keypoints import Keypoints
from .repository import BUNDLE

Job = tuple[NDArray[np.uint8], NDArray[np.float64]]


class TritonPythonModel:
    """Answers requests of B frames of one size, `frame` `(B, H, W, 3)` uint8 BGR and `boxes` `(B, N, 4)` float64 xyxy.

    The answer is `keypoints` `(B, N, K, 3)` float32: x and y in px of the frame, and score; the same bits as
    `PoseEstimator` gives. A request that cannot be answered gets an error of its own.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Open the estimator. `args` as Triton's Python backend passes them."""
        import triton_python_backend_utils as triton  # a module of the server's, which only it can import

        self._triton = triton
        parameters = json.loads(args["model_config"])["parameters"]
        folder = Path(args["model_repository"]) / args["model_version"]
        self._pose = PoseEstimator(
            folder / BUNDLE,
            backend=parameters["backend"]["string_value"],
            precision=parameters["precision"]["string_value"],
            throughput=True,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """The answers to a batch of requests, in their order."""
        jobs = [self._jobs(request) for request in requests]
        people = sum(len(boxes) for of_request in jobs for _, boxes in of_request)
        try:
            found = list(self._pose.stream((job for of_request in jobs for job in of_request), people=people))
        except PosertError:  # one of them cannot be answered: each alone, so that the others do not notice
            return [self._alone(of_request) for of_request in jobs]
        answers = iter(found)
        return [self._response([next(answers) for _ in of_request]) for of_request in jobs]

    def _jobs(self, request: Any) -> list[Job]:
        # By DLPack, in place: `as_numpy` copies, and that of Triton 2.51 takes NumPy 2 arrays for rows of one value.
        tensors = [self._triton.get_input_tensor_by_name(request, name) for name in ("frame", "boxes")]
        return list(zip(*map(np.from_dlpack, tensors), strict=True))

    def _alone(self, jobs: list[Job]) -> Any:
        t = self._triton
        try:
            return self._response([self._pose(*job) for job in jobs])
        except PosertError as error:
            code = t.TritonError.INVALID_ARG if isinstance(error, InputError) else t.TritonError.INTERNAL
            return t.InferenceResponse(error=t.TritonError(str(error), code))

    def _response(self, people: list[Keypoints]) -> Any:
        joints = np.stack([np.concatenate([p.xy, p.score[..., None]], axis=2) for p in people])
        # of nobody DLPack's strides are not those that Triton expects
        make = self._triton.Tensor.from_dlpack if joints.size else self._triton.Tensor
        return self._triton.InferenceResponse([make("keypoints", joints)])
