"""int8 in a build: what the target demands stays in float, in both variants, and no more.

The network is written by hand, so that it finds its joints without training: each joint is a disc of its own colour,
and a channel of the network answers to that colour. One block multiplies half of its channels by 1000 and divides them
again: in float that changes nothing, in int8 the other half falls below the smallest step.
"""

from __future__ import annotations

import hashlib
import itertools
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
from onnx import TensorProto, helper, numpy_helper

from posert.calib.cache import CalibrationCache, write_cache
from posert.calib.calibrated import calibrate
from posert.calib.images import crops_from_coco
from posert.calib.overlap import EvaluationImages
from posert.calib.ranges import CalibrationState
from posert.export.builder.int8 import METHOD, make_int8
from posert.export.builder.model import Loaded, PublishedModel
from posert.export.builder.plan import Build, Plan
from posert.export.builder.tuning import MIN_PEOPLE_FOR_AP, PEOPLE, calibration_sample_size, tuning_frames
from posert.export.catalog import find
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import run
from posert.export.weights.load import Provenance
from posert.runtime.accuracy.frames import Frames
from posert.runtime.bundle.archive import Golden
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import CalibrationError

COCO = dataset("coco")
CONTRACT = Contract("coco", COCO.keypoints, COCO.flip_pairs, COCO.skeleton, COCO.sigmas, 48, 64, 24, 32)
LEVELS = (40, 128, 216)
COLOURS = np.array([c for c in itertools.product(LEVELS, repeat=3) if len(set(c)) > 1][:17])
WIDTH, HEIGHT, PER_IMAGE = 210, 70, 4
K = 24  # channels; 17 of them mean something


def make_frames(images: int, seed: int = 0) -> Frames:
    """Grey pictures with four people each, whose crops are cut without scaling."""
    rng = np.random.default_rng(seed)
    pixels = np.full((images, HEIGHT, WIDTH, 3), 84, np.uint8)
    annotations: list[dict[str, Any]] = []
    for image in range(images):
        for person in range(PER_IMAGE):
            x, y, w, h = 6 + 50 * person + rng.uniform(0, 4), 8 + rng.uniform(0, 4), 38.4, 51.2
            joints = np.array([x, y]) + rng.uniform(0.05, 0.95, (17, 2)) * (w, h)
            for (px, py), colour in zip(joints, COLOURS, strict=True):
                cv2.circle(pixels[image], (round(px), round(py)), 2, colour.tolist(), -1)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": [x, y, w, h],
                    "area": w * h * 0.6,
                    "iscrowd": 0,
                    "keypoints": np.column_stack([joints, np.full(17, 2)]).reshape(-1).tolist(),
                    "num_keypoints": 17,
                }
            )
    records = [{"id": i, "file_name": f"{seed}-{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(images)]
    coco = {"images": records, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}

    def read(name: str) -> bytes:
        return cv2.imencode(".png", pixels[int(name.split("-")[1][:-4])])[1].tobytes()

    return Frames(coco, lambda record: pixels[record["id"]], read, "user", "discs")


def network(hard: bool = True) -> onnx.ModelProto:
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def conv(name: str, x: str, weights: NDArray[Any], bias: NDArray[Any] | None = None, relu: bool = True) -> str:
        bias = np.zeros(len(weights)) if bias is None else bias
        for part, values in (("weight", weights), ("bias", bias)):
            constants.append(numpy_helper.from_array(np.asarray(values, np.float32), f"{name}.{part}"))
        pads = [weights.shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [name], name=name, pads=pads))
        if relu:
            nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}.relu"))
        return f"{name}.relu" if relu else name

    def diagonal(scale: NDArray[Any], rows: int = K) -> NDArray[Any]:
        return np.diag(scale)[:rows, :, None, None]

    nodes.append(helper.make_node("Cast", ["crops"], ["float"], name="cast", to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Transpose", ["float"], ["planes"], name="planes", perm=[0, 3, 1, 2]))
    units = list(itertools.product(range(3), LEVELS, (1, -1)))
    weights, bias = np.zeros((K, 3, 1, 1)), np.zeros(K)
    for i, (channel, level, sign) in enumerate(units):
        weights[i, channel], bias[i] = sign / 60, -sign * level / 60
    x = conv("colour.conv", "planes", weights, bias)
    weights, bias = np.zeros((K, K, 1, 1)), np.zeros(K)
    for k, colour in enumerate(COLOURS):
        bias[k] = 1
        for i, (channel, level, _) in enumerate(units):
            weights[k, i] = -1.0 * (colour[channel] == level)
    x = conv("match.conv", x, weights, bias)
    nodes.append(helper.make_node("AveragePool", [x], ["pooled"], name="pool", kernel_shape=[2, 2], strides=[2, 2]))
    gauss = np.outer(*[cv2.getGaussianKernel(5, 1.2).ravel()] * 2)
    x = conv("blur.conv", "pooled", np.eye(K)[:, :, None, None] * gauss)
    large = np.where(np.arange(K) % 2, 1.0, 1000.0 if hard else 1.0)
    for block, scale in (("easy", np.ones(K)), ("hard", large), ("plain", np.ones(K))):
        x = conv(f"{block}.conv1", x, diagonal(scale))
        x = conv(f"{block}.conv2", x, diagonal(1 / scale))
    x = conv("head.conv", x, diagonal(np.ones(K), 17), relu=False)
    nodes.append(helper.make_node("Identity", [x], ["heatmaps"], name="out"))
    graph = helper.make_graph(
        nodes,
        "discs",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["N", 64, 48, 3])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["N", 17, 32, 24])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


FRAMES = make_frames(16)
NOBODY = EvaluationImages([], lambda name: b"")


def plan(**changes: Any) -> Plan:
    base = Plan(
        PublishedModel(find("hrnet_demo"), "file.pth"), ("fp32", "int8"), Path("x"), FRAMES, True, FRAMES, tunable=True
    )
    return replace(base, max_drop=0.05, **changes)


def make(folder: Path, model: onnx.ModelProto, asked: Plan, people: int = 32) -> tuple[Build, list[str]]:
    """A build that has its float32 graph, after the int8 step; and the names of what it reported."""
    told: list[str] = []
    build = Build(asked, lambda what, *_: told.append(what), folder)
    build.loaded = Loaded(Reference(torch.nn.Identity(), CONTRACT), Provenance("file"), {})
    crops = crops_from_coco(FRAMES.coco, FRAMES.read, CONTRACT, people)
    some = next(iter(crops))[:1]
    build.golden = Golden(some, run(model, {"crops": some}))
    (folder / "fp32.onnx").write_bytes(model.SerializeToString())
    build.add_graph(folder / "fp32.onnx", "onnx", "fp32", 19)
    make_int8(build, model, crops, NOBODY)
    return build, list(dict.fromkeys(told))


def record_of(build: Build) -> dict[str, Any]:
    assert build.calibration is not None
    return build.calibration


def variants_of(build: Build) -> list[Path]:
    """The files of both int8 graphs, CPU's first."""
    return [build.folder / build.graphs[name][0].file for name in ("int8", "int8_gpu")]


def quantised(path: Path) -> set[str]:
    """Names of the convolutions that read a dequantised tensor."""
    nodes = onnx.load(path).graph.node
    back = {n.output[0] for n in nodes if n.op_type == "DequantizeLinear"}
    return {n.name for n in nodes if n.op_type == "Conv" and n.input[0] in back}


def rest_of(path: Path) -> set[int]:
    """The types of what the convolutions add, which is not int8."""
    graph = onnx.load(path).graph
    types = {t.name: t.data_type for t in graph.initializer}
    return {types[n.input[2]] for n in graph.node if n.op_type == "Conv" and len(n.input) > 2}


LAYERS = {f"{b}.conv{i}" for b in ("easy", "hard", "plain") for i in (1, 2)}
LAYERS |= {f"{b}.conv" for b in ("colour", "match", "blur", "head")}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, list[str]]:
    return make(tmp_path_factory.mktemp("hard"), network(), plan())


class TestOneHardBlock:
    def test_it_alone_stays_in_float_in_both_variants(self, searched: tuple[Build, list[str]]) -> None:
        made, _ = searched
        assert list(made.graphs) == ["fp32", "int8", "int8_gpu"]
        for file in variants_of(made):
            assert LAYERS - quantised(file) == {"hard.conv1", "hard.conv2"}
        cpu, gpu = (rest_of(file) for file in variants_of(made))
        assert (cpu, gpu) == ({onnx.TensorProto.FLOAT}, {onnx.TensorProto.FLOAT16})
        reason, int8 = "int8 costs accuracy in hard", [made.graphs[name][0] for name in ("int8", "int8_gpu")]
        for name in ("hard.conv1", "hard.conv2"):
            assert all(graph.float_nodes.get(name) == reason for graph in int8)

    def test_the_record_tells_what_was_measured(self, searched: tuple[Build, list[str]]) -> None:
        record = json.loads(json.dumps(record_of(searched[0]), allow_nan=False))
        found = record["search"]
        assert found["accuracy"] > 0.5, "the float network must find its joints, or nothing can be lost"
        assert (found["people"], found["images"], found["max_drop"]) == (32, 15, 0.05)
        steps = found["steps"]
        # Channels that differ by 1000 are equalised by its root; 0.17 are lost all the same, more than is allowed.
        assert steps[0]["blocks"] == [] and steps[0]["drop"] > 0.1
        best = steps[found["best"]]
        assert best["blocks"] == ["hard"] and best["drop"] <= 0.05
        assert all(s["interval"][0] <= s["drop"] <= s["interval"][1] and s["ms"] > 0 for s in steps)
        worst = max(found["blocks"], key=lambda b: b["loss"])
        assert worst["name"] == "hard" and worst["float"] and worst["nodes"] == 2
        assert [b["float"] for b in found["blocks"]].count(True) == 1
        # 1x1 convolutions on the halved picture, beside 3 and 24 channels on the whole one and a 5x5 convolution
        share = 2 * K * K / (4 * (3 * K + K * K) + 25 * K * K + 6 * K * K + 17 * K)
        assert best["float_macs"] == pytest.approx(share) and worst["macs"] == pytest.approx(share)
        assert record["int8_macs"] == pytest.approx(1 - share)
        assert list(record["ranges"])[-1] == "plain.conv2.relu" and record["method"] == METHOD

    def test_the_verdict_is_a_sentence(self, searched: tuple[Build, list[str]]) -> None:
        verdict = record_of(searched[0])["verdict"]
        assert (
            "% of the multiply-adds are in int8. On 32 instances used neither for calibration nor by the gate"
            in verdict
        )
        assert "With all blocks in int8, AP fell by 0." in verdict and "1 of 7 blocks stays in float: hard." in verdict
        assert verdict.endswith(": hard.")

    def test_progress_names_every_step(self, searched: tuple[Build, list[str]]) -> None:
        told = searched[1]
        assert told[:3] == ["calibration", "int8: rounding of weights", "int8 graphs"]
        assert "int8: what each block costs" in told and any("search, try 1" in what for what in told)


def test_without_a_hard_block_nothing_is_searched(tmp_path: Path) -> None:
    made, told = make(tmp_path, network(hard=False), plan())
    assert quantised(variants_of(made)[0]) == quantised(variants_of(made)[1]) == LAYERS
    found = record_of(made)["search"]
    assert [s["blocks"] for s in found["steps"]] == [[]] and found["blocks"] == []
    assert record_of(made)["verdict"].endswith("No block has to stay in float.")
    assert not any("block" in what or "search" in what for what in told)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tunable": False}, "say nothing about these weights; give labelled training images with --calib"),
        ({"tunable": False, "model": PublishedModel(find("hrnet_demo"), "random")}, "the weights are random"),
    ],
)
def test_without_labels_that_mean_something_it_is_said_and_nothing_is_searched(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    made, _ = make(tmp_path, network(), plan(**changes))
    assert reason in record_of(made)["search"]["reason"] and reason in record_of(made)["verdict"]
    assert "was not measured" in record_of(made)["verdict"]
    assert quantised(variants_of(made)[0]) == LAYERS


def test_a_network_that_finds_nobody_has_nothing_to_lose(tmp_path: Path) -> None:
    blind = network()
    head = next(t for t in blind.graph.initializer if t.name == "head.conv.weight")
    head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), head.name))
    made, _ = make(tmp_path, blind, plan())
    assert "nothing to lose" in record_of(made)["verdict"]


class TestScales:
    def scales(self, model: onnx.ModelProto, people: int = 32) -> CalibrationCache:
        crops, seen = crops_from_coco(FRAMES.coco, FRAMES.read, CONTRACT, people), CalibrationState()
        found = calibrate(model, crops, state=seen)
        described = crops.provenance()
        files = {name: {"sha256": sha256, "people": []} for name, sha256 in described["files"].items()}
        sha256 = hashlib.sha256(model.SerializeToString()).hexdigest()
        return CalibrationCache(
            "discs", sha256, ({**described, "data": "discs", "kind": "user", "files": files},), seen, found
        )

    def test_they_are_used_as_they_are(self, tmp_path: Path) -> None:
        model = network(hard=False)
        scales = self.scales(model, people=20)
        write_cache(tmp_path / "s.json", scales)
        made, told = make(tmp_path, model, plan(scales=tmp_path / "s.json"))
        record = record_of(made)
        assert "calibration" not in told and record["method"] == METHOD and record["scales"] == "s.json"
        assert record["people"] == 20 and record["ranges"]["blur.conv.relu"] == [
            0.0,
            scales.ranges["blur.conv.relu"].hi,
        ]
        graph = onnx.load(variants_of(made)[1]).graph
        stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        # symmetric: the largest magnitude at 127, rounded up to a float16
        step = scales.result("").signed["blur.conv.relu"].hi / 127
        (scale,) = [stored[n.input[1]] for n in graph.node if n.output[0] == "blur.conv.relu/int8"]
        assert scale.dtype == np.float16 and step <= float(scale) <= step * (1 + 2**-10)

    def test_of_another_graph_they_are_refused(self, tmp_path: Path) -> None:
        write_cache(tmp_path / "s.json", self.scales(network(hard=False)))
        with pytest.raises(
            CalibrationError, match=r"s.json is the calibration cache of another graph.*[0-9a-f]{64}.*[0-9a-f]{64}"
        ):
            make(tmp_path, network(), plan(scales=tmp_path / "s.json"))


class TestPeopleToTuneOn:
    def test_they_are_those_that_the_ranges_do_not_rest_on(self) -> None:
        chosen = {a["id"] for a in FRAMES.coco["annotations"][::2]}
        frames = tuning_frames(FRAMES, lambda a: a["id"] in chosen, NOBODY)
        assert isinstance(frames, Frames)
        assert {a["id"] for a in frames.coco["annotations"]} == set(range(1, 65)) - chosen

    def test_there_is_a_cap(self) -> None:
        many = make_frames(60)
        frames = tuning_frames(many, lambda a: False, NOBODY)
        assert isinstance(frames, Frames)
        count = len(frames.coco["annotations"])
        assert PEOPLE - PER_IMAGE <= count <= PEOPLE + PER_IMAGE
        seen = {a["image_id"] for a in frames.coco["annotations"]}
        assert {r["id"] for r in frames.coco["images"]} == seen and max(seen) == 59 and min(seen) == 0

    def test_too_few_are_none(self) -> None:
        few = tuning_frames(FRAMES, lambda a: a["id"] >= MIN_PEOPLE_FOR_AP, NOBODY)
        assert (
            isinstance(few, str)
            and f"has 64 labelled instances, of which the ranges rest on 45; {MIN_PEOPLE_FOR_AP - 1} are left" in few
        )

    def test_one_of_the_gates_images_among_them_is_refused(self) -> None:
        name = FRAMES.coco["images"][3]["file_name"]
        with pytest.raises(CalibrationError, match=f"1 calibration image is also in the evaluation set: '{name}'"):
            tuning_frames(FRAMES, lambda a: False, EvaluationImages([name], FRAMES.read))

    @pytest.mark.parametrize(("images", "count"), [(4, 64), (6, 64), (7, 8), (9, 16), (10, 20), (16, 32), (40, 64)])
    def test_ranges_leave_half_of_a_small_set(self, images: int, count: int) -> None:
        assert calibration_sample_size(make_frames(images), 64) == count
        left = images * PER_IMAGE - count
        assert left >= MIN_PEOPLE_FOR_AP or count == 64  # which is all there are of a smaller set
