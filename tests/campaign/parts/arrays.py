"""Frames and boxes as programs hand them over: any dtype, strides, subclass or library; the same joints, or an error."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posert.runtime.errors import PosertError
from posert.runtime.estimator import PoseEstimator
from posert.tests.campaign import material
from posert.tests.campaign.bundles import check_keypoints
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.mutate import NUMBERS, Rng, pick, some_value

_DTYPES = ("uint8", "uint8", "uint8", "int8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool",
           "complex64", ">u2", ">f4", "object", "U3", "S2", "M8[s]", "V3")  # fmt: skip


class _Sub(np.ndarray):
    """A subclass with an attribute, as medical and remote sensing libraries have."""


class _Odd:
    """An object that gives an array in its own way."""

    def __init__(self, value: Any, way: str) -> None:
        self.value, self.way = value, way
        self.shape, self.dtype = getattr(value, "shape", (1,)), "uint8"

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self.way == "raises":
            raise KeyError("no array today")
        return self.value if self.way == "list" else np.asarray(self.value, dtype)


def _as(rng: Rng, value: np.ndarray, done: list[str]) -> Any:
    """The same values in another form."""
    way = str(rng.choice(["as is", "fortran", "negative", "step", "view", "readonly", "subclass", "masked", "matrix", "list",
                          "memory", "torch", "torch grad", "odd", "raises", "wrong list", "swapped", "unaligned", "broadcast"]))  # fmt: skip
    done.append(way)
    if way == "fortran":
        return np.asfortranarray(value)
    if way == "negative":
        return np.ascontiguousarray(value[::-1, ...])[::-1, ...] if value.ndim else value
    if way == "step" and value.ndim >= 2:
        wide = np.repeat(value, 2, axis=1)
        return wide[:, ::2]
    if way == "view" and value.ndim >= 2 and value.dtype != object:
        larger = np.zeros((value.shape[0] + 5, value.shape[1] + 7, *value.shape[2:]), value.dtype)
        larger[2:-3, 3:-4] = value
        return larger[2:-3, 3:-4]
    if way == "readonly":
        value = value.copy()
        value.flags.writeable = False
        return value
    if way == "subclass":
        return value.view(_Sub)
    if way == "masked":
        return np.ma.masked_array(value, rng.random(value.shape) < pick(rng, (0.0, 0.01)))
    if way == "matrix" and value.ndim == 2:
        return np.asmatrix(value)
    if way == "list" and value.size < 3000:
        return value.tolist()
    if way == "memory" and value.dtype.kind in "uif":
        return memoryview(np.ascontiguousarray(value))
    if way in ("torch", "torch grad") and value.dtype in (np.uint8, np.float32, np.float64, np.int64):
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(value))
        return tensor.clone().requires_grad_() if way == "torch grad" and value.dtype.kind == "f" else tensor
    if way in ("odd", "raises", "wrong list"):
        return _Odd(value, {"odd": "array", "wrong list": "list"}.get(way, way))
    if way == "swapped":
        return value.astype(value.dtype.newbyteorder()) if value.dtype.kind in "uif" else value
    if way == "unaligned" and value.dtype.kind in "uif":
        raw = np.zeros(value.nbytes + 1, np.uint8)
        out = raw[1:].view(value.dtype).reshape(value.shape)
        out[...] = value
        return out
    if way == "broadcast" and value.ndim == 3:
        return np.broadcast_to(value[:1], value.shape)
    return value


def _frame(rng: Rng, done: list[str]) -> Any:
    way = str(rng.choice(["right"] * 6 + ["dtype", "shape", "size", "value"]))
    done.append(f"frame {way}")
    if way == "value":
        return pick(rng, (None, "frame.png", b"\0" * 300, 5, {}, [], [[]], object(), array.array("B", [1, 2, 3]), Path("x.png"),
                          iter([1]), np.uint8(3), np.zeros((), np.uint8), [None], some_value(rng)))  # fmt: skip
    height, width = (110, 100)
    if way == "size":
        height, width = pick(
            rng, ((1, 1), (1, 100), (110, 1), (2, 3), (0, 10), (10, 0), (40000, 2), (2, 70000), (33, 4097))
        )
    frame = (
        material.frame(int(rng.integers(3)), width, height)
        if height and width
        else np.zeros((height, width, 3), np.uint8)
    )
    if way == "shape":
        frame = pick(rng, (frame[..., 0], frame[..., :2], np.dstack([frame, frame[..., :1]]), frame[None], frame.transpose(2, 0, 1),
                           frame[..., :1], frame.ravel(), frame[:0], frame[:, :, :0], np.zeros((3, 3, 3, 3), np.uint8)))  # fmt: skip
    if way == "dtype":
        name = pick(rng, _DTYPES)
        done.append(name)
        with np.errstate(all="ignore"):
            frame = np.zeros(frame.shape, name) if np.dtype(name).kind in "OUSMV" else frame.astype(name)
    return _as(rng, frame, done)


def _boxes(rng: Rng, done: list[str]) -> Any:
    way = str(
        rng.choice(["right"] * 4 + ["none", "many", "numbers", "numbers", "dtype", "shape", "value", "far", "tiny"])
    )
    done.append(f"boxes {way}")
    if way == "none":
        return pick(rng, (None, [], np.zeros((0, 4)), np.zeros((0, 4), np.int32)))
    if way == "value":
        return pick(rng, (5, "1 2 3 4", [[]], {"a": 1}, {0: [1, 2, 3, 4]}, {(1, 2, 3, 4)}, [["1", "2", "3", "4"]], iter([[1, 2, 3, 4]]),
                          [[1, 2, 3]], [[1, 2, 3, 4], [1, 2, 3]], [[True, True, 9, 9]], [[1 + 2j, 2, 30, 40]], object(),
                          some_value(rng), "1239", [None], [[None] * 4], b"1234"))  # fmt: skip
    count = int(rng.choice([1, 2, 5, 17])) if way == "many" else 2
    start = rng.uniform(-30, 60, (count, 2))
    rows = np.concatenate([start, start + rng.uniform(1, 90, (count, 2))], axis=1)
    if way == "numbers":
        for _ in range(int(rng.integers(1, 4))):
            number = pick(rng, [n for n in NUMBERS if abs(n) < 1.7e308 or n != n or abs(n) == float("inf")])
            rows[int(rng.integers(count)), int(rng.integers(4))] = number
    elif way == "dtype":
        name = pick(rng, _DTYPES)
        done.append(name)
        with np.errstate(all="ignore"):
            rows = np.zeros(rows.shape, name) if np.dtype(name).kind in "OUSMV" else rows.astype(name)
    elif way == "shape":
        rows = pick(
            rng,
            (rows[0], rows[None], rows[:, :3], np.hstack([rows, rows[:, :1]]), rows.T, rows.reshape(-1), rows[:, :0]),
        )
    elif way == "far":
        rows += pick(rng, (1e3, -1e3, 1e6, 9.9e8, 1e9, -9e8, 2e38, 1e300))
    elif way == "tiny":
        rows[:, 2:] = rows[:, :2] + pick(rng, (1e-3, 1e-7, 1e-12, 0.0, np.spacing(rows[:, :2])))
    return _as(rng, rows, done)


def _plain(frame: Any, boxes: Any) -> tuple[Any, Any]:
    """The same in numpy's plainest form."""
    image = np.ascontiguousarray(np.asarray(frame)).astype(np.uint8)
    return image, None if boxes is None else np.array(np.asarray(boxes), np.float64).reshape(-1, 4)


def open_part(folder: Path) -> Run:
    path = material.bundle(folder)
    estimators = {name: PoseEstimator(path, backend=name) for name in ("openvino", "onnxruntime")}
    estimators["throughput"] = PoseEstimator(path, backend="openvino", throughput=True)
    names = estimators["openvino"].contract.keypoints
    known = material.frame()

    def one(case: Case, estimator: PoseEstimator) -> str:
        frame, boxes = _frame(case.rng, case.done), _boxes(case.rng, case.done)
        found = estimator(frame, boxes)
        image, rows = _plain(frame, boxes)
        check_keypoints(found, names, 1 if rows is None else len(rows))
        right = estimator(image, rows)
        if not material.same(found, right):
            raise Defect("other joints in silence", f"{found.xy[:1, :2].tolist()} {right.xy[:1, :2].tolist()}")
        return "equal"

    def several(case: Case, estimator: PoseEstimator) -> str:
        good = [(known, material.BOXES), (known[:50], [[0, 0, 30, 40]]), (known[:, :70], None)]
        right = [estimator(*one) for one in good]
        at, what = (
            int(case.rng.integers(4)),
            str(case.rng.choice(["odd", "odd", "raises", "wrong item", "left", "fine"])),
        )
        case.done.append(f"stream {what} at {at}")

        def frames() -> Iterator[Any]:
            for i, item in enumerate(good):
                if i == at and what == "odd":
                    yield _frame(case.rng, case.done), _boxes(case.rng, case.done)
                if i == at and what == "raises":
                    raise ZeroDivisionError("of the caller")
                if i == at and what == "wrong item":
                    yield pick(case.rng, (None, 5, (), (known,), (known, None, 3), known))
                yield item

        stream, seen = estimator.stream(frames()), []
        kind = "equal"
        try:
            for found in stream:
                seen.append(found)
                if what == "left" and len(seen) == at:
                    stream.close()  # type: ignore[attr-defined]
                    break
        except ZeroDivisionError:
            kind = "the caller's own error"
        except PosertError:
            kind = "refused in its place"
            if what == "odd" and len(seen) != min(at, 3):
                raise Defect("results lost before an error", f"{len(seen)} of {at}") from None
        except (TypeError, ValueError) as error:
            if what != "wrong item":
                raise
            raise Defect(f"traceback: {type(error).__name__} from stream", f"{error}") from error
        if kind == "equal" and what == "odd" and at < 3:
            seen.pop(at)
        if not all(material.same(a, b) for a, b in zip(seen, right, strict=False)):
            raise Defect("other joints in silence", "in a stream")
        if not material.same(estimator(*good[0]), right[0]):
            raise Defect("other joints in silence", "after a stream")
        return kind

    ways: tuple[Callable[[Case, PoseEstimator], str], ...] = (one,) * 9 + (several,)

    def run(case: Case) -> str:
        name = pick(case.rng, list(estimators))
        case.done.append(name)
        return pick(case.rng, ways)(case, estimators[name])

    return run


PART = Part("arrays", "frames and boxes of every dtype, shape, memory layout and library", 50000, 400, open_part)
