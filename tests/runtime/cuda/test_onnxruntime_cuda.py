"""ONNX Runtime's I/O binding over buffers of the pipeline, with its CPU provider in place of CUDA's."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from posert.export.graph.reference import Reference, random_crops
from posert.runtime.backends import onnxruntime_cuda
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import BackendError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.selection import Selection, open_session


def test_keypoints_are_those_of_the_cpu(
    fake_gpu: ctypes.CDLL, narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "_PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_cuda, "_DEVICE", "cpu")
    with Bundle(narrow_bundle) as bundle:
        session = open_session(bundle, "onnxruntime_cuda", "fp32")
        plain = open_session(bundle, "onnxruntime", "fp32", threads=1)
        contract = bundle.contract
    crops = random_crops(contract, 3)
    np.testing.assert_allclose(session.infer(crops)[0], plain.infer(crops)[0], rtol=0, atol=1e-6)
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    boxes = [[10, 10, 100, 200], [100, 20, 250, 230], [-20, 40, 80, 160]]
    there = PoseEstimator.from_session(contract, session, Selection("onnxruntime_cuda", "fp32", ""))(frame, boxes)
    here = PoseEstimator.from_session(contract, plain, Selection("onnxruntime", "fp32", ""))(frame, boxes)
    np.testing.assert_allclose(there.score, here.score, atol=1e-5)
    # the networks differ in their last bits; a tie between cells may go the other way
    assert (np.abs(there.xy - here.xy).max(axis=2) < 1e-3).mean() > 0.9


def test_without_its_provider(fake_gpu: ctypes.CDLL, narrow_bundle: Path, narrow_reference: Reference) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with Bundle(narrow_bundle) as bundle, pytest.raises(BackendError, match="no CUDA: pip install onnxruntime-gpu"):
        open_session(bundle, "onnxruntime_cuda", "fp32")
