"""Files that do not belong together: each is refused with what the file looks like and the line that mends it."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from posert.export.networks import network_of
from posert.runtime.cli.main import main

JOINTS = 3
Text = dict[str, Any]


def hrnet(width: int) -> Text:
    def stage(branches: int) -> Text:
        planes = [width * 2**i for i in range(branches)]
        counts = {"num_modules": 1, "num_branches": branches, "num_blocks": [1] * branches}
        return {**counts, "block": "BASIC", "num_channels": planes}

    first = {"num_modules": 1, "num_branches": 1, "num_blocks": [1], "block": "BOTTLENECK", "num_channels": [4]}
    return {"type": "HRNet", "extra": {"stage1": first, **{f"stage{n}": stage(n) for n in (2, 3, 4)}}}


def resnet(depth: int) -> Text:
    return {"type": "ResNet", "depth": depth, "stem_channels": 4, "base_channels": 4}


def model(backbone: Text, joints: int = JOINTS, old: bool = False, **head: Any) -> Text:
    if backbone["type"] == "HRNet":
        head = {"in_channels": backbone["extra"]["stage2"]["num_channels"][0]} | head
        head |= {"num_deconv_layers": 0} if old else {"deconv_out_channels": None}
    else:
        head = {"in_channels": 32 if backbone["depth"] < 50 else 128} | head
        head |= {} if old else {"deconv_out_channels": [8, 8, 8]}
    head |= {"out_channels": joints}
    if old:
        return {
            "type": "TopDown",
            "backbone": backbone,
            "keypoint_head": {"type": "TopdownHeatmapSimpleHead", **head},
            "test_cfg": {"post_process": "default", "shift_heatmap": True},
        }
    return {"type": "TopdownPoseEstimator", "backbone": backbone, "head": {"type": "HeatmapHead", **head}}


def joints_of(count: int) -> Text:
    names = {i: {"name": f"j{i}", "id": i, "swap": ""} for i in range(count)}
    rest = {"skeleton_info": {}, "sigmas": [], "joint_weights": [1.0] * count}
    return {"dataset_name": "test", "keypoint_info": names, **rest}


def config(found: Text, joints: int = JOINTS, width: int = 64, height: int = 64, **codec: Any) -> str:
    """An MMPose config of the version of its `model`."""
    if found["type"] == "TopDown":
        sizes = {"image_size": [width, height], "heatmap_size": [width // 4, height // 4]}
        norm = {"type": "NormalizeTensor", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        test = {"type": "TopDownCocoDataset", "data_cfg": sizes, "dataset_info": joints_of(joints), "pipeline": [norm]}
        return f"model = {found!r}\ndata = { ({'test': test})!r}\n"
    sizes = {"input_size": (width, height), "heatmap_size": (width // 4, height // 4), "sigma": 2}
    found["data_preprocessor"] = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}
    found["head"]["decoder"] = {"type": "MSRAHeatmap", **sizes} | codec
    crops = {"type": "TopdownAffine", "input_size": (width, height)}
    data = {"dataset": {"type": "CocoDataset", "metainfo": joints_of(joints), "pipeline": [crops]}}
    return f"model = {found!r}\ntrain_dataloader = {data!r}\ntest_dataloader = {data!r}\n"


def weights(found: Text, prefix: str = "") -> dict[str, Tensor]:
    """What a training of this model saves, with its own prefixes."""
    old = found["type"] == "TopDown"
    state = network_of(found, "mmpose-0" if old else "mmpose-1").build().state_dict()
    head = "keypoint_head." if old else "head."
    parts = ("final_layer.", "deconv_layers.")
    return {prefix + (head if key.startswith(parts) else "backbone.") + key: value for key, value in state.items()}


CONTRACT = {
    "dataset": "test", "keypoints": ["a", "b", "c"], "flip_pairs": [], "skeleton": [], "sigmas": [],
    "width": 24, "height": 32, "heatmap_width": 6, "heatmap_height": 8,
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "decode": "msra",
}  # fmt: skip
VECTORS = CONTRACT | {"decode": "simcc", "heatmap_width": 48, "heatmap_height": 64}


def onnx_file(
    path: Path,
    outputs: Sequence[tuple[str, Sequence[int]]] = (("heatmaps", (JOINTS, 8, 6)),),
    shape: Sequence[int | str] = (1, 3, 32, 24),
    kind: int = TensorProto.FLOAT,
    before: Sequence[tuple[str, Any]] = (),
    last: str = "",
) -> Path:
    """A network whose outputs are its images' mean times numbers: enough to have shapes and values."""
    rng, nodes, constants, name = np.random.default_rng(0), [], [], "images"

    def constant(label: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), label))
        return label

    for i, (operator, value) in enumerate(before):
        nodes.append(helper.make_node(operator, [name, constant(f"c{i}", value)], [f"b{i}"], f"norm{i}"))
        name = f"b{i}"
    if kind == TensorProto.UINT8:
        nodes.append(helper.make_node("Cast", [name], ["cast"], "cast", to=TensorProto.FLOAT))
        name = "cast"
    nodes.append(helper.make_node("ReduceMean", [name], ["mean"], "mean", axes=[1, 2, 3], keepdims=1))
    declared = []
    for label, dims in outputs:
        numbers = constant(f"{label}.n", rng.random((1, int(np.prod(dims)))).astype(np.float32))
        nodes.append(helper.make_node("Reshape", ["mean", constant(f"{label}.m", np.int64([-1, 1]))], [f"{label}.r"]))
        nodes.append(helper.make_node("MatMul", [f"{label}.r", numbers], [f"{label}.p"]))
        inner = f"{label}.p"
        if last:
            nodes.append(helper.make_node(last, [inner], [f"{label}.s"]))  # along the last axis
            inner = f"{label}.s"
        nodes.append(helper.make_node("Reshape", [inner, constant(f"{label}.t", np.int64([-1, *dims]))], [label]))
        declared.append(helper.make_tensor_value_info(label, TensorProto.FLOAT, ["N", *dims]))
    images = helper.make_tensor_value_info("images", kind, shape)
    graph = helper.make_graph(nodes, "net", [images], declared, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The message of a build that is refused, and that leaves nothing behind."""

    def run(*arguments: str | Path) -> str:
        output = tmp_path / "out.pose"
        status = main(["build", *map(str, arguments), "--output", str(output)])
        message = capsys.readouterr().err.rpartition("posert build: ")[2]
        assert status == 2 and not output.exists(), message
        assert len(message) < 1500, message
        return message

    return run


def save(path: Path, content: Any) -> Path:
    if path.suffix == ".pth":
        torch.save({"state_dict": content}, path)
    else:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


WEIGHTS = {
    "another width": (
        model(hrnet(6)), model(hrnet(4)),
        "weights are of an HRNet of width 4 with 3 outputs.*network is an HRNet of width 6 with 3.*--config",
    ),
    "another family": (
        model(resnet(50)), model(hrnet(4)), "weights are of an HRNet of width 4 .*network is a ResNet 50 with 3 deconv",
    ),
    "another depth": (
        model(resnet(18)), model(resnet(50)), "weights are of a ResNet 50 .*network is a ResNet 18 .*--config",
    ),
    "other joints": (
        model(hrnet(4)), model(hrnet(4), joints=5), "weights are for 5 joints, the network for 3.*--dataset-file",
    ),
    "another head": (
        model(resnet(18)), model(resnet(18)) | {"head": {"type": "HeatmapHead", "in_channels": 32, "out_channels": 3,
            "deconv_out_channels": [8, 8], "deconv_kernel_sizes": [4, 4]}},
        "of a ResNet 18 with 2 deconvolutions .*is a ResNet 18 with 3 deconvolutions",
    ),
    "a config of 0.x": (
        model(hrnet(4), old=True), model(hrnet(4)),
        r"is of MMPose 1.x \(its keys begin with backbone. and head.\).* is an MMPose 0.x config.*--config",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_another_network(tmp_path: Path, refused: Callable[..., str], name: str) -> None:
    ours, theirs, message = WEIGHTS[name]
    seen = refused(
        "--config", save(tmp_path / "c.py", config(ours)), "--weights", save(tmp_path / "w.pth", weights(theirs))
    )
    assert re.search(message, seen, re.DOTALL), seen


STRANGERS = {
    "a transformer": {"backbone.patch_embed.projection.weight": (8, 3, 16, 16), "backbone.pos_embed": (1, 9, 8)},
    r"a SimCC network \(RTMPose\)": {"backbone.stem.0.conv.weight": (8, 3, 3, 3), "head.cls_x.weight": (96, 8)},
    "a detector": {"backbone.conv1.weight": (8, 3, 3, 3), "bbox_head.rtm_cls.0.weight": (1, 8, 1, 1)},
    "a network that gives coordinates": {"backbone.conv1.weight": (8, 3, 3, 3), "head.fc.weight": (34, 8)},
    r"does not know \(its first weights are encoder.0.weight\)": {"encoder.0.weight": (8, 3)},
}


@pytest.mark.parametrize("name", STRANGERS)
def test_weights_of_no_such_family(tmp_path: Path, refused: Callable[..., str], name: str) -> None:
    state = {key: torch.zeros(shape) for key, shape in STRANGERS[name].items()}
    seen = refused(
        "--config",
        save(tmp_path / "c.py", config(model(hrnet(4)))),
        "--weights",
        save(tmp_path / "w.pth", state),
    )
    assert re.search(f"the weights are of .*{name}", seen), seen


def test_an_experiment_file_with_weights_of_mmpose(tmp_path: Path, refused: Callable[..., str]) -> None:
    stage = {"BLOCK": "BASIC", "NUM_MODULES": 1, "FUSE_METHOD": "SUM"}
    extra = {
        f"STAGE{n}": stage | {"NUM_BRANCHES": n, "NUM_BLOCKS": [1] * n, "NUM_CHANNELS": [4 * 2**i for i in range(n)]}
        for n in (2, 3, 4)
    }
    sizes = {"IMAGE_SIZE": [64, 64], "HEATMAP_SIZE": [16, 16]}
    values = {
        "MODEL": {"NAME": "pose_hrnet", "NUM_JOINTS": 17, **sizes, "EXTRA": {**extra, "FINAL_CONV_KERNEL": 1}},
        "DATASET": {"DATASET": "coco"},
    }
    state = network_of(values["MODEL"], "experiment").build().state_dict()
    state = {("head." if key.startswith("final") else "backbone.") + key: value for key, value in state.items()}
    seen = refused("--experiment", save(tmp_path / "e.yaml", values), "--weights", save(tmp_path / "w.pth", state))
    assert "w.pth is of MMPose 1.x" in seen and "experiment file, which decodes otherwise" in seen, seen
    assert "--config" in seen and "--contract" in seen


def test_two_networks_in_one_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    found = model(hrnet(4), old=True)
    both = weights(found, "first.") | weights(found, "second.")
    seen = refused("--config", save(tmp_path / "c.py", config(found)), "--weights", save(tmp_path / "w.pth", both))
    assert "2 networks that fit, under first., second.: keep the weights of one" in seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--network", "w.pth", "--config", "c.py"), r"w.pth is a checkpoint, not an ONNX file: give .* --weights"),
        (("--weights", "n.onnx", "--config", "c.py"), r"n.onnx is an ONNX file: give it with --network"),
        (("--weights", "c.py", "--config", "c.py"), r"c.py is a config, not a checkpoint: give it with --config"),
        (("--weights", "w.pth", "--config", "n.onnx"), r"n.onnx holds no description of its pre-"),
        (("--weights", "w.pth", "--config", "missing.py"), r"there is no file .*missing.py"),
        (("--weights", "w.pth", "--config", "joints.yaml"), r"joints.yaml is a data set file.*--dataset-file"),
        (("--weights", "w.pth", "--config", "c.py", "--dataset-file", "c.py"), r"c.py"),
        (("--weights", "noise.pth"), r"noise.pth begins with b'\\xa0qq.*a checkpoint, an ONNX file, a bundle"),
        (
            ("--weights", "w.pth", "--config", "c.py", "--dataset-file", "joints.yaml"),
            r"has 3 output channels, and the data set 'more' has 5 joints.*--dataset-file",
        ),
        (
            ("--arch", "hrnet_w32", "--weights", "w.pth", "--dataset-file", "joints.yaml"),
            r"of an HRNet of width 4 with 3 outputs.*is an HRNet of width 32 with 5 outputs",
        ),
    ],
)  # fmt: skip
def test_one_file_in_the_place_of_another(
    tmp_path: Path, refused: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    found = model(hrnet(4))
    save(tmp_path / "w.pth", weights(found))
    save(tmp_path / "c.py", config(found))
    save(tmp_path / "joints.yaml", {"name": "more", "keypoints": list("abcde")})
    (tmp_path / "noise.pth").write_bytes(b"\xa0qq\xc1uUe\xbe" * 20)
    onnx_file(tmp_path / "n.onnx")
    seen = refused(*(a if a.startswith("--") or a == "hrnet_w32" else tmp_path / a for a in arguments))
    assert re.search(message, seen, re.DOTALL), seen


def test_a_size_that_the_contract_says(tmp_path: Path, refused: Callable[..., str]) -> None:
    """--imgsz is of an architecture; beside a contract it would be ignored."""
    network, contract = onnx_file(tmp_path / "n.onnx"), save(tmp_path / "contract.yaml", CONTRACT)
    seen = refused("--network", network, "--contract", contract, "--imgsz", "64x48")
    assert "--imgsz goes with --arch and without --contract" in seen and "posert contract FILE" in seen


def test_a_bundle_in_the_place_of_weights(tmp_path: Path, refused: Callable[..., str]) -> None:
    with zipfile.ZipFile(tmp_path / "b.pose", "w") as archive:
        archive.writestr("manifest.json", "{}")
    assert "is a bundle" in refused("--network", tmp_path / "b.pose", "--contract", tmp_path / "b.pose")


MEAN = np.float32([123.675, 116.28, 103.53]).reshape(1, 3, 1, 1)
SMALL = np.float32([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
ONNX: dict[str, tuple[Text, Text, str]] = {
    "more joints": (CONTRACT, {"outputs": [("h", (5, 8, 6))]}, "for 5 joints and the contract for 3.*--dataset-file"),
    "another map": (
        CONTRACT | {"heatmap_width": 12, "heatmap_height": 16}, {}, "heatmap_width: 6 and heatmap_height: 8",
    ),
    "a turned map": (
        CONTRACT, {"outputs": [("h", (3, 6, 8))]}, "heatmap_width: 8 and heatmap_height: 6",
    ),
    "combined maps": (CONTRACT, {"outputs": [("h", (9, 8, 6))]}, "decode: udp_heatmap_combined"),
    "no combined maps": (CONTRACT | {"decode": "udp_heatmap_combined"}, {}, "decode: udp_heatmap or"),
    "vectors for maps": (CONTRACT, {"outputs": [("x", (3, 48)), ("y", (3, 64))]}, "SimCC vectors.*'msra' reads heatm"),
    "maps for vectors": (VECTORS, {}, "these are heatmaps and the decode rule reads SimCC vectors"),
    "another ratio": (
        VECTORS, {"outputs": [("x", (3, 72)), ("y", (3, 96))]},
        r"heatmap_width: 72 and heatmap_height: 96 \(simcc_split_ratio=3.0",
    ),
    "vectors of more joints": (
        VECTORS, {"outputs": [("x", (5, 48)), ("y", (5, 64))]}, "for 5 joints and the contract for 3",
    ),
    "vectors without names": (
        VECTORS | {"width": 32, "heatmap_width": 64},
        {"shape": (1, 3, 32, 32), "outputs": [("617", (3, 64)), ("618", (3, 64))]}, "rename them simcc_x and simcc_y",
    ),
    "vectors swapped, of any size": (
        VECTORS, {"shape": ("N", 3, "h", "w"), "outputs": [("simcc_x", (3, 64)), ("simcc_y", (3, 48))]},
        "by its length simcc_y would be along x.*swapped: width: 32, height: 24",
    ),
    "joints": (CONTRACT, {"outputs": [("keypoints", (3, 2)), ("scores", (3, 1))]}, "decoded already.*without its dec"),
    "joints with scores": (CONTRACT, {"outputs": [("out", (3, 3))]}, "decoded already"),
    "a softmax": (
        CONTRACT, {"outputs": [("h", (1, 8, 6))], "last": "Softmax"}, "after a softmax.*leave the last softmax out",
    ),
    "a detector by its names": (
        CONTRACT, {"outputs": [("dets", (100, 5)), ("labels", (100, 1))]}, "boxes of a detector",
    ),
    "a detector by its rows": (CONTRACT, {"outputs": [("output0", (56, 8400))]}, "boxes of a detector"),
    "a detector by its size": (CONTRACT, {"shape": (1, 3, 640, 640)}, r"\[1, 3, 640, 640\].* may be a detector"),
    "width and height swapped": (
        CONTRACT, {"shape": (1, 3, 24, 32)}, r"are swapped.*width: 32, height: 24",
    ),
    "another size": (CONTRACT, {"shape": (1, 3, 64, 48)}, r"\[1, 3, 64, 48\].*width: 48, height: 64"),
    "grey images": (CONTRACT, {"shape": (1, 1, 32, 24)}, "takes 1 channels, and posert runs networks of three"),
    "uint8": (
        CONTRACT, {"shape": (1, 32, 24, 3), "kind": TensorProto.UINT8}, r"takes uint8.*mean: \[0, 0, 0\] and std:",
    ),
    "normalised by itself": (
        CONTRACT, {"before": [("Sub", MEAN), ("Div", MEAN)]},
        r"normalises by itself \(node 'norm0'\).*mean: \[0, 0, 0\] and std: \[0.0039",
    ),
    "normalised by itself, of 0 to 1": (
        CONTRACT, {"before": [("Sub", SMALL)]}, r"normalises by itself .*mean: \[0, 0, 0\] and std: \[1.0, 1.0, 1.0\]",
    ),
    "scaled by itself, and the contract by another number": (
        CONTRACT | {"mean": [0, 0, 0], "std": [1, 1, 1]}, {"before": [("Sub", MEAN)]}, r"std: \[0.0039",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONNX)
def test_an_onnx_file_of_another_network(tmp_path: Path, refused: Callable[..., str], name: str) -> None:
    contract, options, message = ONNX[name]
    if name == "a softmax":
        contract = contract | {"keypoints": ["a"]}
    path = onnx_file(tmp_path / "n.onnx", **options)
    seen = refused("--network", path, "--contract", save(tmp_path / "contract.yaml", contract))
    assert re.search(message, seen, re.DOTALL), seen


def test_a_config_with_an_onnx_file_of_another_size(tmp_path: Path, refused: Callable[..., str]) -> None:
    path = onnx_file(tmp_path / "n.onnx", shape=(1, 3, 64, 48), outputs=[("h", (3, 16, 12))])
    seen = refused("--network", path, "--config", save(tmp_path / "c.py", config(model(hrnet(4)), width=64, height=48)))
    assert re.search(r"takes images \[1, 3, 64, 48\].* swapped.*width: 48, height: 64", seen), seen


def test_external_data_that_is_not_there(tmp_path: Path, refused: Callable[..., str]) -> None:
    found = onnx.load(onnx_file(tmp_path / "n.onnx"))
    onnx.save(found, tmp_path / "e.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    seen = refused("--network", tmp_path / "e.onnx", "--contract", save(tmp_path / "contract.yaml", CONTRACT))
    assert "weights.bin" in seen and "External data must lie beside the file" in seen, seen


def test_what_weights_say_of_themselves_and_the_config_says_otherwise(tmp_path: Path) -> None:
    """Layers of one name and shape that compute something else: only the file's own config shows them."""
    import argparse

    from posert.export import arguments

    theirs, ours = model(resnet(50) | {"style": "caffe"}), model(resnet(50) | {"style": "pytorch"})
    path = tmp_path / "w.pth"
    torch.save({"meta": {"cfg": config(theirs)}, "state_dict": weights(theirs)}, path)
    parser = argparse.ArgumentParser()
    arguments.add_model_arguments(parser)
    given = ["--config", str(save(tmp_path / "c.py", config(ours))), "--weights", str(path)]
    note = arguments.model_of(parser.parse_args(given)).note
    assert "the given file says backbone style 'pytorch' and not 'caffe', which w.pth says of itself" in note


def test_messages_are_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = onnx_file(tmp_path / "n.onnx", outputs=[("h", (5, 8, 6))])
    contract = save(tmp_path / "contract.yaml", CONTRACT)
    assert main(["build", "--network", str(path), "--contract", str(contract), "--json"]) == 2
    assert "--dataset-file" in json.loads(capsys.readouterr().out)["error"]
