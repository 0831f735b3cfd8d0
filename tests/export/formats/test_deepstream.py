"""`posert export deepstream`: the geometry of nvinfer's crops, the configuration, the probes, the AP that is left."""

from __future__ import annotations

import configparser
import json
import runpy
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from posert.export.demo.frames import demo_frames
from posert.export.formats import _nvinfer
from posert.runtime.bundle.contract import Contract
from posert.runtime.cli.main import main
from posert.runtime.datasets import dataset
from posert.runtime.pose.preprocess import crop, crop_matrices, crop_regions

GEOMETRY = runpy.run_path(str(_nvinfer.GEOMETRY))


def contract_of(**changes: Any) -> Contract:
    coco = dataset("coco")
    named = {"keypoints": coco.keypoints, "flip_pairs": (), "skeleton": (), "sigmas": coco.sigmas}
    sizes = {"width": 192, "height": 256, "heatmap_width": 48, "heatmap_height": 64}
    return Contract(**{"dataset": "coco", **named, **sizes, **changes})


CONTRACTS = [
    contract_of(),
    contract_of(udp=True),
    contract_of(padding=1.0, enlarge=(1.09, 1.135)),
    contract_of(width=256),
]


@pytest.mark.parametrize("contract", CONTRACTS)
@given(
    box=st.tuples(st.floats(0, 900), st.floats(0, 500), st.floats(8, 700), st.floats(8, 500)),
    joint=st.tuples(st.floats(0, 191), st.floats(0, 255)),
)
def test_a_joint_comes_back_where_posert_puts_it(
    contract: Contract, box: tuple[float, ...], joint: tuple[float, float]
) -> None:
    """Far from the edges of a frame both crops show the same, up to the even pixels that nvinfer takes."""
    left, top, width, height = box
    rect = GEOMETRY["rectangle"](left + 4000, top + 4000, width, height, 10000, 10000, asdict(contract))
    assert all(n % 2 == 0 and n >= 0 for n in rect)  # GST_ROUND_UP_2 and GST_ROUND_DOWN_2 leave them as they are
    xyxy = np.array([[left, top, left + width, top + height]]) + 4000
    center, extent = crop_regions(xyxy, contract)
    matrix = crop_matrices(center, extent, contract.width, contract.height, contract.udp)[0]
    expected = np.linalg.solve(matrix[:, :2], np.array(joint) - matrix[:, 2])
    found = GEOMETRY["to_frame"](*joint, rect, asdict(contract))
    # each edge moves by up to 1 px; single precision of the coordinate, in crop_regions
    np.testing.assert_allclose(found, expected, atol=1.01)


@given(box=st.tuples(*[st.floats(-500, 2500)] * 2, *[st.floats(1, 3000)] * 2))
def test_a_rectangle_lies_in_the_frame(box: tuple[float, ...]) -> None:
    rect = GEOMETRY["rectangle"](*box, 1921, 1081, asdict(CONTRACTS[0]))
    assume(rect is not None)
    left, top, width, height = rect
    assert left >= 0 and top >= 0 and width > 0 and height > 0 and left + width <= 1921 and top + height <= 1081
    assert GEOMETRY["rectangle"](5000, 10, 50, 50, 1921, 1081, asdict(CONTRACTS[0])) is None


def test_the_emulation_shows_what_posert_crops() -> None:
    """A smooth picture: the two crops differ by what a picture changes within the rounding of a rectangle."""
    y, x = np.mgrid[:480, :640]
    frame = np.stack([x * 255 / 640, y * 255 / 480, (x + y) * 255 / 1120], axis=2).astype(np.uint8)
    boxes = np.array([[200.0, 120, 300, 330], [40, 60, 90, 200], [500, 300, 630, 470]])
    crops, rects = _nvinfer.crops_of(frame, boxes, CONTRACTS[0])
    center, extent = crop_regions(boxes, CONTRACTS[0])
    plain = crop(frame, crop_matrices(center, extent, 192, 256), 192, 256)
    inside = (plain[0] > 0).all(axis=2)
    assert inside.mean() > 0.9 and all(rects)
    assert np.abs(plain[0].astype(int) - crops[0])[inside].max() <= 3  # half a grey level a pixel, and rounding


@pytest.fixture
def exported(narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["export", "deepstream", str(narrow_bundle), "--output", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def test_what_is_written(exported: Path) -> None:
    names = ["app.py", "build_engine.sh", "config_infer_secondary.txt", "contract.json", "geometry.py", "golden.npz"]
    assert sorted(p.name for p in exported.iterdir()) == [
        *names,
        *("labels_joints.txt", "model.onnx", "posert-export.json", "probes.py", "run.py"),
    ]
    code = "import sys; sys.modules['posert'] = None; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    for library in ("onnxruntime", "openvino"):
        line = [sys.executable, "-c", code, str(exported / "run.py"), library]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    parsed = configparser.ConfigParser()
    parsed.read(exported / "config_infer_secondary.txt")
    told = dict(parsed["property"])
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    (taken,), (gives,) = session.get_inputs(), session.get_outputs()
    assert [int(n) for n in told["infer-dims"].split(";")] == taken.shape[1:] and taken.type == "tensor(float)"
    assert told["output-blob-names"] == gives.name and told["onnx-file"] == "model.onnx"
    assert (told["network-type"], told["process-mode"], told["model-color-format"]) == ("100", "2", "1")
    facts = json.loads((exported / "contract.json").read_text())
    assert facts["input"]["range"] == [0, 255] and facts["input"]["color"] == "BGR"
    measured = facts["accuracy"]["nvinfer"]
    assert measured["metric"] == "AP" and measured["people"] > 50 and len(measured) == 5
    assert all(name in (exported / "build_engine.sh").read_text() for name in ("crops:8x3x128x96", "--stronglyTyped"))


def test_the_probes(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With objects that have the fields of pyservicemaker's, which comes with the SDK alone."""
    sdk = types.ModuleType("pyservicemaker")
    sdk.BatchMetadataOperator = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyservicemaker", sdk)
    monkeypatch.syspath_prepend(str(exported))
    monkeypatch.delitem(sys.modules, "geometry", raising=False)
    probes = runpy.run_path(str(exported / "probes.py"))
    joints = torch.rand(17, 3) * 90

    def person(kind: int, *box: float) -> Any:
        rect = types.SimpleNamespace(**dict(zip(("left", "top", "width", "height"), box, strict=True)))
        output = types.SimpleNamespace(as_tensor_output=lambda: types.SimpleNamespace(get_layers=lambda: layers))
        layers = {"keypoints": joints, "other": joints}
        return types.SimpleNamespace(class_id=kind, rect_params=rect, object_id=7, tensor_items=[output])

    people = [person(0, 100, 100, 60, 150), person(1, 300, 100, 60, 150)]
    people[1].tensor_items = []
    frame = types.SimpleNamespace(object_items=people, pad_index=0, frame_number=3)
    batch = types.SimpleNamespace(frame_items=[frame])
    probes["PadBoxes"](800, 600).handle_metadata(batch)
    box = people[0].rect_params
    assert (people[1].rect_params.left, people[1].rect_params.width) == (300, 60)  # not a person
    assert box.width == pytest.approx(0.75 * box.height, abs=2) and box.height == pytest.approx(1.25 * 150, abs=2)
    said: list[dict[str, Any]] = []
    probes["ReadKeypoints"](said.append, 50).handle_metadata(batch)
    (told,) = said
    assert (told["person"], told["frame"]) == (7, 3) and list(told["keypoints"]) == list(dataset("coco").keypoints)
    x, y, score = told["keypoints"]["nose"]
    assert x == pytest.approx(box.left - 50 + (float(joints[0, 0]) + 0.5) * box.width / 96 - 0.5)
    assert score == pytest.approx(float(joints[0, 2]))
    json.dumps(told)


@pytest.mark.slow
def test_ap_of_a_trained_network(tmp_path: Path, demo_graph: Callable[[], tuple[onnx.ModelProto, Contract]]) -> None:
    """nvinfer's crops cost little with a border; without one, people at the edges are stretched."""
    model, contract = demo_graph()
    frames = demo_frames(17, "val", 40, "synthetic people")
    found = _nvinfer.measure(model, contract, frames)
    # 83 people: one of them is 0.01
    assert found["posert's crops"] > 0.95 and abs(found["posert's crops"] - found["nvinfer's crops, emulated"]) < 0.01


@pytest.fixture
def demo_graph() -> Callable[[], tuple[onnx.ModelProto, Contract]]:
    def make() -> tuple[onnx.ModelProto, Contract]:
        from posert.export import catalog
        from posert.export.archs import build_arch
        from posert.export.decoding import with_keypoints
        from posert.export.demo import demo_weights
        from posert.export.graph.inputs import with_input
        from posert.export.graph.reference import Reference
        from posert.export.graph.to_onnx import to_onnx, with_crops

        row = catalog.find("hrnet_demo")
        network = build_arch(row.arch, row.keypoints)
        network.load_state_dict(demo_weights("hrnet_demo"))
        reference = Reference(network.eval(), row.contract())
        model = with_input(with_crops(to_onnx(reference), reference.contract), reference.contract, "float")
        return with_keypoints(model, reference.contract), reference.contract

    return make


def test_what_is_missing_is_told(narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    for options, message in (
        (("--annotations", "labels.json"), "--images"),
        (("--precision", "int8"), "unknown graph 'int8'"),
        (("--annotations", str(tmp_path / "no.json"), "--images", str(tmp_path)), "no.json"),
    ):
        assert main(["export", "deepstream", str(narrow_bundle), "--output", out, *options]) == 2
        assert message in capsys.readouterr().err
        assert not Path(out).exists()
