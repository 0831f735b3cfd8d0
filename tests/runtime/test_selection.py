"""What `auto` picks among backends and precisions, and what it says of the choice."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.backends import installed_backends, load_backend
from posert.runtime.bundle.archive import Artifact, Bundle, Golden, describe, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import BackendError
from posert.runtime.selection import Selection, select

INSTALLED = list(installed_backends())
CONTRACT = Contract(
    dataset="coco", keypoints=("a",), flip_pairs=(), skeleton=(), sigmas=(0.1,),
    width=8, height=8, heatmap_width=2, heatmap_height=2,
)  # fmt: skip


def bundle_of(
    path: Path, verdicts: dict[tuple[str, str], str], artifacts: str = "fp32 fp16 int8 torchscript"
) -> Bundle:
    """A bundle of empty graphs, for what is decided before a graph is compiled."""
    graphs = {
        name: (Artifact(name, "onnx", f"{name}.onnx", precision="fp32", opset=19, **describe(b"")), b"")
        for name in artifacts.split()
    }
    rows = [
        {
            **{"backend": backend, "precision": precision, "verdict": verdict, "accuracy": None, "accuracy_drop": None},
            **{"pixel_drift_p95": 0.0, "ms_per_person": 1.0, "artifact": {"bf16": "fp32"}.get(precision, precision)},
        }
        for (backend, precision), verdict in verdicts.items()
    ]
    golden = Golden(np.zeros((1, 8, 8, 3), np.uint8), (np.zeros((1, 1, 2, 2), np.float32),))
    write_bundle(
        path,
        name="decide",
        model={"arch": "x", "dataset": "coco"},
        contract=CONTRACT,
        graphs=graphs,
        golden=golden,
        calibration=None,
        accuracy={"rows": rows},
        versions={},
    )
    return Bundle(path)


def hide(monkeypatch: pytest.MonkeyPatch, **libraries: str) -> None:
    for backend, library in libraries.items():
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, f"posert.runtime.backends.{backend}", raising=False)


P, F, U = "passed", "failed", "unproven"
OV, ORT, TS = "openvino", "onnxruntime", "torchscript"
REFERENCE = {("pytorch", "fp32"): "reference"}
BF16 = pytest.mark.skipif(
    OV not in INSTALLED or "bf16" not in load_backend(OV).runnable(), reason="this CPU has no bfloat16 arithmetic"
)


class TestSelection:
    @pytest.mark.parametrize(
        ("verdicts", "expected"),
        [
            ({(OV, "int8"): P, (OV, "fp32"): P, (OV, "fp16"): P}, (OV, "int8")),
            ({(OV, "int8"): F, (OV, "fp32"): P, (OV, "fp16"): P}, (OV, "fp32")),
            ({(OV, "int8"): U, (OV, "fp32"): U, (OV, "fp16"): U}, (OV, "fp32")),
            ({(OV, "int8"): F, (OV, "fp32"): F, (OV, "fp16"): P}, (OV, "fp16")),
            ({(OV, "int8"): U, (OV, "fp32"): F, (OV, "fp16"): F}, (OV, "int8")),
            # int8 was fine on one backend and not on the other: it must not be taken where it failed
            ({(OV, "int8"): F, (ORT, "int8"): P, (OV, "fp32"): P}, (OV, "fp32")),
            # everything failed on the preferred backend: the next one
            ({**{(OV, p): F for p in ("fp32", "fp16", "int8")}, (ORT, "fp32"): P}, (ORT, "fp32")),
            # a bundle that was built where this backend was not installed
            ({(ORT, "int8"): P, (ORT, "fp32"): P}, (OV, "int8")),
            ({(ORT, "int8"): F, (ORT, "fp32"): P}, (OV, "fp32")),
            # bf16 is proven by its own row only, and proves nothing about the graph that it computes
            pytest.param({(OV, "int8"): F, (OV, "bf16"): P, (OV, "fp32"): P}, (OV, "bf16"), marks=BF16),
            pytest.param({(OV, "int8"): F, (OV, "bf16"): F, (OV, "fp32"): P}, (OV, "fp32"), marks=BF16),
            ({(OV, "int8"): F, (OV, "fp32"): P}, (OV, "fp32")),
            ({(ORT, "int8"): F, (ORT, "fp32"): P, ("elsewhere", "bf16"): F}, (OV, "fp32")),
            ({}, (OV, "fp32")),
        ],
    )
    def test_auto(self, tmp_path: Path, verdicts: dict[tuple[str, str], str], expected: tuple[str, str]) -> None:
        selected = select(bundle_of(tmp_path / "b.pose", REFERENCE | verdicts))
        assert (selected.backend, selected.precision) == expected
        proven = {v for (_, p), v in verdicts.items() if p == expected[1]} == {P} or verdicts.get(expected) == P
        assert ("passed the accuracy gate" in selected.reason) == proven
        assert "the first backend that can run here" in selected.reason

    @pytest.mark.parametrize(("verdict", "expected"), [(P, "fp32"), (F, "fp32")])
    def test_bf16_tells_nothing_about_the_fp32_graph(self, tmp_path: Path, verdict: str, expected: str) -> None:
        selected = select(bundle_of(tmp_path / "b.pose", REFERENCE | {("elsewhere", "bf16"): verdict}))
        assert (selected.precision, "no precision is proven" in selected.reason) == (expected, True)

    def test_the_reference_proves_nothing(self, tmp_path: Path) -> None:
        assert "no precision is proven" in select(bundle_of(tmp_path / "b.pose", REFERENCE)).reason

    def test_everything_failed(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        pairs = [(b, p) for b in (OV, ORT) for p in ("fp32", "fp16", "int8")] + [(TS, "fp32")]
        bundle = bundle_of(tmp_path / "b.pose", dict.fromkeys(pairs, F))
        with pytest.raises(BackendError, match="openvino int8, .*failed the accuracy gate.*backend= and precision="):
            select(bundle)
        with caplog.at_level(logging.WARNING, "posert"):
            selected = select(bundle, OV, "int8")
        assert selected == Selection(OV, "int8", "as asked, although it failed the accuracy gate")
        assert "failed the accuracy gate" in caplog.text

    def test_what_is_asked_for_is_what_runs(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {(OV, "int8"): P})
        assert select(bundle, ORT, "fp16") == Selection(ORT, "fp16", "as asked")
        assert select(bundle, precision="fp16").backend == OV
        assert select(bundle, TS) == Selection(
            TS, "fp32", "as asked; no precision is proven in this bundle, so the widest"
        )

    def test_what_the_bundle_lacks(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {}, "fp32")
        with pytest.raises(BackendError, match=r"no int8 graph \(it has fp32\)\. Rebuild with: .*--precision int8"):
            select(bundle, precision="int8")
        with pytest.raises(BackendError, match="fp32 does not run on torchscript. It runs with the backend openvino"):
            select(bundle, TS)

    def test_a_precision_that_there_is_not(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {})
        for backend in ("auto", OV):
            with pytest.raises(BackendError, match=r"^unknown precision 'int4'\. Did you mean int8\?") as caught:
                select(bundle, backend, "int4")
            assert "posert build" not in str(caught.value), "which would refuse it too"

    def test_another_backend_runs_it(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {})
        with pytest.raises(
            BackendError, match="fp16 does not run on torchscript. It runs with the backend openvino or"
        ):
            select(bundle, TS, "fp16")

    def test_unknown_backend(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="Did you mean onnxruntime"):
            select(bundle_of(tmp_path / "b.pose", {}), "onnx_runtime")

    def test_missing_backends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {(OV, "int8"): P, (ORT, "int8"): P, (ORT, "fp32"): P})
        hide(monkeypatch, openvino="openvino")
        assert select(bundle).backend == ORT
        with pytest.raises(BackendError, match=r"posert\[openvino\]"):
            select(bundle, OV)
        hide(monkeypatch, onnxruntime="onnxruntime")
        assert select(bundle) == Selection(
            TS, "fp32", "the first backend that can run here; no precision is proven in this bundle, so the widest"
        )
        hide(monkeypatch, torchscript="torch")
        with pytest.raises(BackendError, match=r"no backend can run here.*pip install .posert\[openvino\]"):
            select(bundle)

    def test_it_says_which_and_why(self, narrow_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "posert"):
            pose = PoseEstimator(narrow_bundle, threads=1)
        assert pose.selection.backend == INSTALLED[0]
        assert f"narrow-coco-128x96: {INSTALLED[0]} fp32, the first backend" in caplog.text

    def test_it_is_shown_by_its_name_and_choice(self, narrow_bundle: Path) -> None:
        pose = PoseEstimator(narrow_bundle, threads=1)
        assert repr(pose) == f"PoseEstimator('narrow-coco-128x96', {INSTALLED[0]} fp32)"
        again = PoseEstimator.from_session(pose.contract, pose.session, pose.selection)
        assert repr(again) == f"PoseEstimator({INSTALLED[0]} fp32)"

    def test_a_bundle_that_is_already_open_stays_open(self, narrow_bundle: Path) -> None:
        with Bundle(narrow_bundle) as bundle:
            PoseEstimator(bundle, threads=1)
            bundle.check()
