"""Two graphs against each other: an error that is planted in one layer is found in that layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from posert.calib.fp16 import to_fp16
from posert.export import catalog
from posert.export.archs import build_arch
from posert.export.builder.model import Loaded
from posert.export.divergence.drift import measure
from posert.export.divergence.layers import ModuleLayers, compare_layers
from posert.export.divergence.operands import ModelRef, normalised, open_pair
from posert.export.graph.reference import Reference, random_crops
from posert.export.weights.load import Provenance
from posert.runtime.accuracy.frames import Frames
from posert.runtime.bundle.archive import Bundle, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.cli.main import main
from posert.runtime.errors import InputError

LAYER = "stage3.0.branches.1.0.conv2"
BOUND = 1e-3  # of float32 graphs, as in the accuracy gate


def planted(graph: bytes, layer: str, factor: float = 1.05) -> bytes:
    """The graph with one filter of one layer made too strong."""
    model = onnx.load_from_string(graph)
    node = next(n for n in model.graph.node if n.name == layer)
    weights = next(t for t in model.graph.initializer if t.name == node.input[1])
    values = numpy_helper.to_array(weights).copy()
    values[0] *= factor
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def graph(narrow_bundle: Path) -> bytes:
    with Bundle(narrow_bundle) as bundle:
        return bundle.read(bundle.artifacts["fp32"])


@pytest.fixture
def wrong(graph: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(planted(graph, LAYER, 3.0))
    return path


def model(graph: bytes, reference: Reference | None = None, contract: Contract | None = None) -> ModelRef:
    return ModelRef("model", "fp32", None, contract, None, graph or None, reference)  # type: ignore[arg-type]


def test_the_layer_with_the_error_is_named(graph: bytes, narrow_reference: Reference) -> None:
    crops = random_crops(narrow_reference.contract, 2)
    found = compare_layers(model(graph), model(planted(graph, LAYER)), crops, BOUND)
    assert found is not None and found.first is not None
    assert (found.first.name, found.first.op, found.first.inherited) == (LAYER, "Conv", 0.0)
    assert found.jumps(1)[0].name == LAYER
    # what comes before it, or lies beside it, is equal to the last bit
    position = [layer.name for layer in found.layers].index(LAYER)
    assert all(layer.error == 0 for layer in found.layers[:position])
    # and all that the graph computes was compared
    assert len(found.layers) == len(onnx.load_from_string(graph).graph.node)


@pytest.mark.parametrize("layer", [None, LAYER, "conv1", "final_layer"])
def test_the_pytorch_model_against_a_graph(graph: bytes, narrow_reference: Reference, layer: str | None) -> None:
    crops = random_crops(narrow_reference.contract, 1)
    other = planted(graph, layer) if layer else graph
    found = compare_layers(model(b"", narrow_reference), model(other), crops, BOUND)
    convolutions = [n for n in onnx.load_from_string(graph).graph.node if n.op_type == "Conv"]
    assert found is not None and len(found.layers) == len(convolutions)
    assert (found.first.name if found.first else None) == layer


def test_precisions_share_the_names(graph: bytes, narrow_reference: Reference) -> None:
    half = to_fp16(onnx.load_from_string(graph)).SerializeToString()
    crops = random_crops(narrow_reference.contract, 1)
    found = compare_layers(model(graph), model(half), crops, 2e-2)
    assert found is not None and found.first is None
    assert {layer.op for layer in found.layers} >= {"Conv", "Relu", "Add", "Resize"}
    assert 1e-5 < max(layer.error for layer in found.layers) < 2e-2  # it is float16 that was compared


def test_a_module_that_is_called_twice_and_a_norm_of_its_own() -> None:
    """Names count as the exporter counts, and a norm that is not folded keeps its own."""

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(0.5)  # type: ignore[union-attr]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(self.conv(x)).relu_())

    network = Twice().eval()

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return network(crops.permute(0, 3, 1, 2).float())

    crops = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    with torch.inference_mode():
        first = network.conv(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
        normed = network.norm(first)
        last = network.conv(normed.relu())
    tensors = {"conv": "conv.out", "norm": "norm.out", "conv_2": "heatmaps", "relu_1": "relu_1.out"}
    layers = ModuleLayers(Plain(), tensors)  # type: ignore[arg-type]
    assert layers.names == {"conv.out", "norm.out", "heatmaps"}
    seen = layers.run(sorted(layers.names), crops)
    for name, expected in (("conv.out", first), ("norm.out", normed), ("heatmaps", last)):
        np.testing.assert_allclose(seen[name], expected.numpy(), rtol=1e-5)
    folded = ModuleLayers(Plain(), {"conv": "conv.out"}).run(["conv.out"], crops)  # type: ignore[arg-type]
    np.testing.assert_allclose(folded["conv.out"], normed.numpy(), rtol=1e-5)


def test_plain_graphs_take_what_the_contract_says(
    narrow_onnx: onnx.ModelProto, narrow_reference: Reference, graph: bytes
) -> None:
    contract = narrow_reference.contract
    crops = random_crops(contract, 2)
    expected = narrow_reference.normalise(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(normalised(crops, contract), expected, atol=1e-6)
    found = compare_layers(model(narrow_onnx.SerializeToString(), None, contract), model(graph), crops, BOUND)
    assert found is not None and found.first is None and len(found.layers) > 50


def test_drift_is_what_the_maps_were_moved_by(narrow_reference: Reference) -> None:
    """Two sessions whose peaks lie two cells apart."""
    c = narrow_reference.contract
    cells = np.array([[5, 7], [9, 12]])

    class Drawn:
        def __init__(self, shift: int) -> None:
            self.shift = shift

        def infer(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32]]:
            maps = np.zeros((len(crops), len(c.keypoints), c.heatmap_height, c.heatmap_width), np.float32)
            for person, (x, y) in enumerate(cells[: len(crops)]):
                maps[person, :, y, x + self.shift] = 1.0
                maps[person, 3, y, x + self.shift] = 0.1  # of which nobody is sure
            return (maps,)

    frames = frames_of([[10, 10, 30, 40], [5, 0, 45, 60]])
    a, b = (ModelRef(str(s), "fp32", Drawn(s), c) for s in (0, 2))
    drift = measure(a, b, c, frames)
    assert drift.people == 2 and set(drift.joints) == {"default", "unbiased"}
    extent = np.array(
        [1.25 * 40 * 96 / 128, 1.25 * 60 * 96 / 128]
    )  # the box's height decides, as it is the longer side
    expected = 2 * extent / c.heatmap_width
    for joint in range(len(c.keypoints)):
        seen = drift.joints["default"][:, joint]
        assert np.isnan(seen).all() if joint == 3 else np.allclose(seen, expected, atol=1e-4)
    assert drift.output["max"] == 1.0 and drift.output["relative"] == pytest.approx(np.sqrt(2))
    assert sorted(p.drift for p in drift.worst) == pytest.approx(sorted(expected), abs=1e-4)


def frames_of(boxes: list[list[float]]) -> Frames:
    people = [
        {"id": i, "image_id": 1, "bbox": box, "area": 1.0, "num_keypoints": 17, "keypoints": [1.0] * 51, "iscrowd": 0}
        for i, box in enumerate(boxes)
    ]
    coco = {"images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}], "annotations": people}
    frame = np.random.default_rng(1).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    return Frames(coco, lambda record: frame, lambda name: b"", "user", "two people")


@pytest.fixture
def few_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the synthetic people, which take seconds to draw."""
    frames = frames_of([[10, 10, 30, 40], [5, 0, 45, 60]])
    monkeypatch.setattr("posert.export.demo.frames.demo_frames", lambda *_: frames)


def test_the_command(
    narrow_bundle: Path, wrong: Path, few_people: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert main(["compare", f"{narrow_bundle}:fp32", str(wrong), "--output", str(folder), "--json"]) == 1
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["layers"]["first"]["name"] == LAYER and not report["same"]
    assert report["people"] == 2 and set(report["joints"]) == {"default", "unbiased"}
    assert json.loads((folder / "compare.json").read_text()) == report
    assert len(list(folder.glob("worst_*.png"))) == 2
    picture = cv2.imread(str(folder / "worst_1.png"))
    assert picture is not None and picture.shape[0] >= 300 and picture.std() > 10

    assert main(["compare", f"{narrow_bundle}:fp32", f"{narrow_bundle}:torchscript"]) == 0
    text = capsys.readouterr().out
    assert "EQUAL" in text and "no readable layers" in text and "left_shoulder" in text


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{bundle}:int8", "holds torch, fp32, torchscript, not 'int8'"),
        ("{bundle}", "expected BUNDLE:GRAPH"),
        ("{bundle}:fp32@opencl", "unknown backend 'opencl'"),
        ("{bundle}:torchscript@onnxruntime", "onnxruntime runs fp32 of this bundle"),
        ("nothing.onnx", "nothing.onnx: there is no file nothing.onnx; expected"),
        ("nothing.pt@torchscript", "there is no file nothing.pt; expected"),
        ("nothing.pose:fp32", "there is no file nothing.pose; expected"),
        ("nothing", "nothing: expected BUNDLE:GRAPH"),
        ("{bundle}:torch", "built from a network that was in memory; take {bundle}:fp32 in place of it"),
    ],
)
def test_what_cannot_be_opened(
    narrow_bundle: Path, capsys: pytest.CaptureFixture[str], second: str, message: str
) -> None:
    assert main(["compare", f"{narrow_bundle}:fp32", second.format(bundle=narrow_bundle)]) == 2
    assert message.format(bundle=narrow_bundle) in capsys.readouterr().err


def of_ones_own(made: Path, target: Path, **checkpoint: str) -> Path:
    """A bundle of a model that the catalog does not have."""
    with Bundle(made) as bundle:
        graphs = {a.name: (a, bundle.read(a)) for a in bundle.artifacts.values()}
        model = {
            "id": "hrnet-mouse-128x96",
            "arch": "hrnet",
            "dataset": "coco",
            "checkpoint": {"sha256": "ab12", **checkpoint},
        }
        return write_bundle(
            target, name="mine", model=model, contract=bundle.contract, graphs=graphs, golden=bundle.golden(),
            calibration=None, accuracy=bundle.accuracy, versions={},
        )  # fmt: skip


def test_the_model_of_a_bundle_of_ones_own(
    tmp_path: Path, narrow_bundle: Path, narrow_reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    path = of_ones_own(narrow_bundle, tmp_path / "mine.pose", source="file", file="mine.pth")
    made = Loaded(narrow_reference, Provenance("file", "mine.pth", "ab12"), {})
    first, second = open_pair(f"{path}:torch", f"{path}:fp32", own=lambda: made)
    assert first.reference is narrow_reference and second.graph is not None
    crops = random_crops(narrow_reference.contract, 1)
    found = compare_layers(first, second, crops, BOUND)
    assert found is not None and len(found.layers) > 10 and found.first is None

    other = Reference(narrow_reference.network, replace(narrow_reference.contract, padding=2.0))
    for wrong, message in (
        (Loaded(narrow_reference, Provenance("file", "mine.pth", "cd34"), {}), "the bundle was built from ab12"),
        (Loaded(other, Provenance("file", "mine.pth", "ab12"), {}), "another contract than these files state"),
    ):
        with pytest.raises(InputError, match=message):
            open_pair(f"{path}:torch", f"{path}:fp32", own=lambda wrong=wrong: wrong)

    assert main(["compare", f"{path}:torch", f"{path}:fp32"]) == 2
    told = capsys.readouterr().err
    assert "from the files that it was built from (mine.pth): --weights FILE, and the --config" in told
    assert main(["compare", f"{path}:torch", f"{path}:fp32", "--weights", str(tmp_path / "none.pth")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_the_command_makes_the_network_from_the_files_of_its_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    joints, weights, built = tmp_path / "mouse.yaml", tmp_path / "mine.pth", tmp_path / "mine.pose"
    joints.write_text("name: mouse\nkeypoints: [nose, tail]\n")
    row = catalog.find("hrnet_demo")
    torch.save(build_arch(row.arch, 2).state_dict(), weights)
    given = ["--arch", "hrnet_demo", "--weights", str(weights), "--dataset-file", str(joints)]
    assert main(["build", *given, "--precision", "fp32", "--limit", "1", "--output", str(built)]) == 0
    capsys.readouterr()
    assert main(["compare", f"{built}:torch", f"{built}:fp32", *given, "--limit", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["same"] and len(report["layers"]["all"]) > 40


def test_an_onnx_file_stands_for_the_model_of_its_bundle(
    tmp_path: Path, narrow_bundle: Path, narrow_onnx: onnx.ModelProto, capsys: pytest.CaptureFixture[str]
) -> None:
    path = of_ones_own(narrow_bundle, tmp_path / "mine.pose", source="file", file="net.onnx", layout="onnx")
    assert main(["compare", f"{path}:torch", f"{path}:fp32"]) == 2
    told = f"built from the ONNX file net.onnx, in which there is no PyTorch model; take {path}:fp32, or the file"
    assert told in capsys.readouterr().err
    network = onnx.ModelProto()
    network.CopyFrom(narrow_onnx)
    for value in (*network.graph.input, *network.graph.output):  # as many files have it
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(network, tmp_path / "net.onnx")
    assert main(["compare", str(tmp_path / "net.onnx"), f"{path}:fp32", "--limit", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["same"] and len(report["layers"]["all"]) > 50


def test_an_engine_that_is_damaged(tmp_path: Path, narrow_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.engine").write_bytes(b"no")
    assert main(["compare", f"{narrow_bundle}:fp32", str(tmp_path / "x.engine")]) == 2
    err = capsys.readouterr().err
    assert "not a usable engine: x.engine.json, which says" in err and "rebuild it: posert compile BUNDLE" in err


def test_two_files_have_no_contract(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(wrong), str(wrong)]) == 2
    assert "expected at least one graph as BUNDLE:GRAPH" in capsys.readouterr().err
