"""A client of models that posert wrote for Triton: a frame and boxes in, keypoints out, as from `PoseEstimator`.

The protocol is KServe's V2, which other servers speak, too.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..bundle.contract import Contract
from ..errors import InputError, ServerError
from ..pose.decode import decode, px_per_cell, to_frame
from ..pose.frame import check_frame
from ..pose.keypoints import Keypoints
from ..pose.preprocess import check_boxes, crop, crop_matrices, crop_regions
from .model_config import FRAMES, ModelFacts, wire_type

_UNAVAILABLE = ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED", "502", "503", "504")
_INVALID = ("StatusCode.INVALID_ARGUMENT", "400")
_PAUSE = (0.05, 1.0)  # seconds between two attempts: the first, and the longest


class PoseClient:
    """Keypoints of the people in a frame, from a server.

    It reads the model's contract from the server and does what that leaves to it: models that take crops get crops, and
    their joints are taken back to the frame. One client belongs to one thread.

    Args:
        url: HOST:PORT of the server.
        model: its name.
        protocol: "grpc" (Triton's port 8001) or "http" (8000).
        timeout: seconds for a call. While a server cannot be reached, attempts are repeated until then. Over HTTP an
            attempt that has begun may take as long again.

    Raises:
        ServerError: the server does not answer in time, has no such model, or the model is not of posert.
    """

    def __init__(
        self, url: str, model: str, *, protocol: Literal["grpc", "http"] = "grpc", timeout: float = 30
    ) -> None:
        self._model, self._timeout, self._url = model, timeout, url
        self._grpc = protocol == "grpc"
        self._module = _import_client(protocol)
        options = {} if self._grpc else {"connection_timeout": timeout, "network_timeout": timeout}
        self._broken = _broken_connections(protocol)
        self._client = self._module.InferenceServerClient(url, **options)
        self.facts = ModelFacts.from_config(self._repeat(self._read_config))

    @property
    def contract(self) -> Contract:
        """Of the network that is served."""
        return self.facts.contract

    def __enter__(self) -> PoseClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __call__(self, frame: ArrayLike, boxes: ArrayLike | None = None) -> Keypoints:
        """Keypoints of N people; arguments as of `PoseEstimator`.

        Raises:
            InputError: the frame or a box cannot be used.
            ServerError: the server does not answer in time, or with an error.
        """
        image = check_frame(frame)
        height, width = image.shape[:2]
        rows = np.array([[0.0, 0.0, width, height]]) if boxes is None else check_boxes(boxes)
        c, names = self.contract, self.contract.keypoints
        if self.facts.takes == FRAMES:
            (found,) = self._infer({"frame": image[None], "boxes": rows[None]})
            joints = found[0]
            xy, score = joints[..., :2].copy(), joints[..., 2].copy()
        else:
            center, extent = crop_regions(rows, c)
            matrices = crop_matrices(center, extent, c.width, c.height, c.udp)
            cells, score = self._of_crops(crop(image, matrices, c.width, c.height))
            xy = to_frame(cells, center, extent, c.heatmap_width, c.heatmap_height, c.map_udp)
        return Keypoints(xy, score, rows.astype(np.float32), names)

    def _of_crops(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Joints in cells of the map, and scores, of crops in as many requests as they need."""
        c, most = self.contract, self.facts.max_batch
        parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for first in range(0, len(crops), most):
            found = self._infer({str(self.facts.input["name"]): crops[first : first + most]})
            if self.facts.gives == "keypoints":
                joints = found[0].astype(np.float64)
                parts.append((joints[..., :2] / px_per_cell(c), joints[..., 2]))
            else:
                parts.append(decode(found, c))
        k = len(c.keypoints)
        empty = (np.empty((0, k, 2), np.float32), np.empty((0, k), np.float32))
        xy, score = (np.concatenate(arrays).astype(np.float32) for arrays in zip(empty, *parts, strict=True))
        return xy, score

    def _infer(self, inputs: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        given = []
        for name, array in inputs.items():
            tensor = self._module.InferInput(name, list(array.shape), wire_type(array))
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            given.append(tensor)

        def once(left: float) -> Any:
            limit = {"client_timeout": left} if self._grpc else {}
            return self._client.infer(self._model, given, **limit)

        answer = self._repeat(once)
        return tuple([answer.as_numpy(name) for name in self.facts.outputs])

    def _read_config(self, left: float) -> Any:
        if not self._grpc:
            return self._client.get_model_config(self._model)
        return self._client.get_model_config(self._model, as_json=True, client_timeout=left)["config"]

    def _repeat(self, attempt: Any) -> Any:
        """The answer of `attempt(seconds left)`; while the server cannot be reached, again and again."""
        from tritonclient.utils import InferenceServerException

        end, pause = time.monotonic() + self._timeout, _PAUSE[0]
        while True:
            try:
                return attempt(max(end - time.monotonic(), 1e-3))
            except InferenceServerException as error:
                status = str(error.status() or "")
                if status in _INVALID:
                    raise InputError(f"{self._model}: {error.message()}") from error
                if status not in _UNAVAILABLE:
                    raise ServerError(f"{self._model} at {self._url}: {error}") from error
                reason: Exception = error
            except self._broken as error:
                reason = error
            if time.monotonic() + pause >= end:
                raise ServerError(f"{self._url} did not answer within {self._timeout:g} s: {reason}") from reason
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE[1])


def _broken_connections(protocol: str) -> tuple[type[Exception], ...]:
    """What the library raises where a connection is refused or ends. Over gRPC that has a status."""
    if protocol == "grpc":
        return ()
    from geventhttpclient import HTTPParseError

    return OSError, HTTPParseError


def _import_client(protocol: str) -> Any:
    import importlib

    if protocol not in ("grpc", "http"):
        raise InputError(f"protocol {protocol!r}: expected 'grpc' or 'http'")
    try:
        return importlib.import_module(f"tritonclient.{protocol}")
    except ImportError as error:
        line = 'pip install "posert[triton]"'
        raise ServerError(f"the client needs tritonclient, which does not import ({error}): {line}") from error
