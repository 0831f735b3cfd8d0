"""Experiment files, MMDeploy's pipeline.json, ONNX files, bundles, contract.yaml; and files that are none of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import yaml

from posert.export.configs import Description, read_description
from posert.export.configs.joints import Joints
from posert.export.configs.onnx_file import read_interface
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import ConfigError

HRNET: dict[str, Any] = {
    "MODEL": {"NAME": "pose_hrnet", "NUM_JOINTS": 17, "IMAGE_SIZE": [192, 256], "HEATMAP_SIZE": [48, 64], "EXTRA": {}},
    "DATASET": {"DATASET": "coco"},
}
SIMPLE: dict[str, Any] = {
    "MODEL": {
        "NAME": "pose_resnet",
        "NUM_JOINTS": 16,
        "IMAGE_SIZE": [256, 256],
        "EXTRA": {"HEATMAP_SIZE": [64, 64], "TARGET_TYPE": "gaussian"},
    },
    "DATASET": {"DATASET": "mpii"},
}


def read(folder: Path, values: Any, name: str = "x.yaml") -> Description:
    (folder / name).write_text(json.dumps(values) if name.endswith("json") else yaml.safe_dump(values))
    return read_description(folder / name)


def changed(values: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    return {**values, **{name: {**values.get(name, {}), **section} for name, section in sections.items()}}


def test_the_repositories_have_different_defaults(tmp_path: Path) -> None:
    hrnet, simple = read(tmp_path, HRNET), read(tmp_path, SIMPLE)
    assert hrnet.contract is not None and simple.contract is not None
    assert (hrnet.source[:5], simple.source[:16]) == ("HRNet", "simple-baselines")
    assert (hrnet.contract.decode, hrnet.contract.flip_shift, hrnet.contract.model_color) == ("none", False, "BGR")
    assert (simple.contract.decode, simple.contract.flip_shift, simple.contract.model_color) == ("default", True, "BGR")
    assert (hrnet.contract.dataset, simple.contract.dataset) == ("coco", "mpii")
    for name in ("POST_PROCESS", "SHIFT_HEATMAP", "FLIP_TEST"):
        assert any(name in note for note in hrnet.notes) and any(name in note for note in simple.notes)


def test_what_an_experiment_states(tmp_path: Path) -> None:
    stated = {"POST_PROCESS": True, "SHIFT_HEATMAP": True, "FLIP_TEST": True}
    values = changed(HRNET, TEST=stated, DATASET={"COLOR_RGB": True}) | {"GPUS": "(0,1)"}
    found = read(tmp_path, values)
    assert found.contract is not None and found.flip_test and found.channels == 17
    assert (found.contract.decode, found.contract.flip_shift, found.contract.model_color) == ("default", True, "RGB")
    assert (found.contract.mean, found.contract.padding) == ((0.485, 0.456, 0.406), 1.25)
    assert found.network["NAME"] == "pose_hrnet"


def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    found = read(tmp_path, changed(HRNET, DATASET={"DATASET": "mice"}, MODEL={"NUM_JOINTS": 4}))
    assert found.contract is None and "--dataset-file" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(HRNET, MODEL={"NAME": "pose_other"}), "MODEL.NAME is 'pose_other'"),
        (changed(HRNET, MODEL={"TARGET_TYPE": "offset"}), "MODEL.TARGET_TYPE is 'offset'"),
        (changed(HRNET, MODEL={"NUM_JOINTS": 16}), "MODEL.NUM_JOINTS is 16; expected 17"),
        (changed(HRNET, MODEL={"IMAGE_SIZE": "192"}), "IMAGE_SIZE is '192'"),
        (changed(HRNET, TEST={"POST_PROCESS": "yes please"}), "POST_PROCESS is 'yes please'"),
        (changed(SIMPLE, DATASET={"COLOR_RGB": True}), "COLOR_RGB"),
    ],
)
def test_experiments_that_are_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, values)


def pipeline(**params: Any) -> dict[str, Any]:
    """As MMDeploy writes it into its SDK folders."""
    size = [192, 256]
    normalize = {"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "TopDownGetBboxCenterScale", "padding": 1.4, "image_size": size},
        {"type": "TopDownAffine", "image_size": size},
        normalize,
        {"type": "Collect", "keys": ["img"]},
    ]
    simcc = {"flip_test": False, "type": "SimCCLabel", "input_size": size, "sigma": [4.9, 5.66]}
    tasks = [
        {"type": "Task", "module": "Transform", "name": "Preprocess", "transforms": transforms},
        {"name": "pose", "type": "Task", "module": "Net"},
        {"type": "Task", "module": "mmpose", "component": "SimCCLabelDecode", "params": simcc | params},
    ]
    return {"pipeline": {"input": ["img"], "output": ["post_output"], "tasks": tasks}}


def test_pipeline_of_mmdeploy(tmp_path: Path) -> None:
    found = read(tmp_path, pipeline(), "pipeline.json")
    assert (found.source, found.kind, found.joints, found.flip_test) == ("MMDeploy pipeline.json", "simcc", None, False)
    expected = {"width": 192, "height": 256, "heatmap_width": 384, "heatmap_height": 512, "padding": 1.4}
    expected |= {"decode": "simcc", "model_color": "RGB", "mean": (0.485, 0.456, 0.406), "udp": False}
    assert {name: found.fields[name] for name in expected} == expected
    detail = {"version": "1.3.1", "codebase_config": {}, "onnx_config": {"input_shape": [192, 256]}}
    assert read(tmp_path, detail, "detail.json") == found  # the one beside it


def test_maps_of_mmdeploy(tmp_path: Path) -> None:
    maps = pipeline(type="MSRAHeatmap", heatmap_size=[48, 64], shift_heatmap=True, post_process="default")
    found = read(tmp_path, maps, "pipeline.json")
    assert (found.fields["decode"], found.fields["heatmap_width"], found.fields["flip_shift"]) == ("msra", 48, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pipeline(type="RegressionLabel"), "type is 'RegressionLabel'"),
        (pipeline(export_postprocess=True), "export_postprocess"),
        (pipeline(input_size=[256, 256]), "input_size"),
        ({"pipeline": {"tasks": []}}, "0 tasks of mmpose"),
    ],
)
def test_other_pipelines(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, values, "pipeline.json")


def test_detail_without_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected pipeline\.json beside it"):
        read(tmp_path, {"onnx_config": {}}, "detail.json")


def graph(path: Path, external: bool = False, **metadata: str) -> Path:
    """A small ONNX file."""
    value = onnx.helper.make_tensor_value_info
    shape = ["batch", 3, 256, 192]
    weight = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "weight")
    node = onnx.helper.make_node("Mul", ["input", "weight"], ["output"])
    made = onnx.helper.make_graph([node], "g", [value("input", 1, shape)], [value("output", 1, shape)], [weight])
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], producer_name="me")
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path, save_as_external_data=external, size_threshold=0)
    return path


@pytest.mark.parametrize("external", [False, True])
def test_the_ports_of_an_onnx_file(tmp_path: Path, external: bool) -> None:
    path = graph(tmp_path / "x.onnx", external, author="somebody")
    for data in set(tmp_path.iterdir()) - {path}:
        data.unlink()  # weights are not read
    found = read_interface(path)
    assert [str(port) for port in found.inputs] == ["input float (batch, 3, 256, 192)"]
    assert found.outputs[0].shape == ("batch", 3, 256, 192)
    assert (found.metadata, found.opset, found.producer) == ({"author": "somebody"}, 17, "me")
    with pytest.raises(ConfigError, match=r"holds no description.*input float \(batch, 3, 256, 192\).*--config"):
        read_description(path)


def test_a_contract_in_an_onnx_file(tmp_path: Path, narrow_bundle: Path) -> None:
    with Bundle(narrow_bundle) as bundle:
        contract = bundle.contract
    found = read_description(graph(tmp_path / "x.onnx", **{"posert.contract": json.dumps(contract.to_json())}))
    assert found.contract == contract and found.source == "ONNX file"
    with pytest.raises(ConfigError, match="lacks dataset"):
        read_description(graph(tmp_path / "x.onnx", **{"posert.contract": "{}"}))


def test_an_onnx_file_beside_its_pipeline(tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text(json.dumps(pipeline()))
    assert read_description(graph(tmp_path / "end2end.onnx")).source == "MMDeploy pipeline.json"


def test_an_export_of_ultralytics(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ultralytics.*all people of a picture at once"):
        read_description(graph(tmp_path / "yolo.onnx", task="pose", stride="32"))


def test_a_bundle_and_its_contract_as_a_file(tmp_path: Path, narrow_bundle: Path) -> None:
    found = read_description(narrow_bundle)
    with Bundle(narrow_bundle) as bundle:
        assert found.contract == bundle.contract and found.source == "bundle"
    (tmp_path / "contract.json").write_text(json.dumps(found.to_json()))
    again = read_description(tmp_path / "contract.json")
    assert again.contract == found.contract and again.source == "contract file"
    assert (again.kind, again.channels) == ("heatmap", len(bundle.contract.keypoints))


def test_a_contract_of_vectors(tmp_path: Path) -> None:
    values = {"dataset": "m", "keypoints": ["a"], "flip_pairs": [], "skeleton": [], "sigmas": [], "decode": "simcc"}
    values |= {"width": 192, "height": 256, "heatmap_width": 384, "heatmap_height": 512}
    assert read(tmp_path, values, "contract.yaml").kind == "simcc"


def test_a_contract_whose_joints_are_in_a_data_set_file(tmp_path: Path) -> None:
    found = read(tmp_path, {"width": 64, "height": 96, "heatmap_width": 16, "heatmap_height": 24}, "contract.yaml")
    assert found.joints is None and found.contract is None and found.source == "contract file"
    contract = found.joined(Joints("ant", ("head", "thorax", "gaster"), skeleton=((0, 1), (1, 2)))).contract
    assert contract is not None and contract.keypoints == ("head", "thorax", "gaster")
    assert (contract.dataset, contract.width, contract.heatmap_height, contract.padding) == ("ant", 64, 24, 1.25)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.safetensors", safetensors.numpy.save({"a": np.zeros(2)}), "holds no description.*--config"),
        ("x.onnx", b"\x08\x07 damaged", "no ONNX file"),
        ("x.onnx", b"", "no ONNX file"),
        ("x.zip", b"PK\x03\x04 cut", "damaged"),
        ("x.pkl", b"\x80\x04K\x01.", "no data.pkl|damaged|holds no description"),
        ("x.bin", bytes(range(256)), "begins with"),
        ("x.yaml", b"keypoints: [a, b]", "give it with --dataset-file"),
        ("x.json", b'{"categories": []}', "give it with --dataset-file"),
        ("x.py", b"dataset_info = dict()", "give it with --dataset-file"),
        ("x.py", b"class Config:\n    pass", "posert models"),
        ("pose.py", b"__config__ = {'data_provider': 'x'}", "posert models"),
        ("x.py", b"a = 1", "no model in it; expected an MMPose"),
        ("x.txt", b"a = 1", "no model in it"),
        ("x.txt", b"hello", "str, expected an MMPose"),
        ("x.yaml", b"- 1", "list, expected an MMPose"),
        ("x.yaml", b"width: 5", "lacks height, heatmap_width, heatmap_height"),
        ("x.yaml", b"width: 5\nheight: 5\nheatmap_width: 1\nheatmap_height: 1\nsigmas: []", "lacks dataset, keypoints"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_description(tmp_path / name)


def test_contents_decide_not_names(tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text(
        "model = dict(type='TopDown', keypoint_head=dict(type='TopdownHeatmapSimpleHead', out_channels=17))\n"
        "data = dict(test=dict(type='TopDownCocoDataset', data_cfg=dict(image_size=[192, 256], heatmap_size=[48, 64])))"
    )
    assert read_description(tmp_path / "config.txt").source == "MMPose 0.x config"
    assert read(tmp_path, HRNET, "experiment.json").source.startswith("HRNet")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        read_description(tmp_path / "x.py")
