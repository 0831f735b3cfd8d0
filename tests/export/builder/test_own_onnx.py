"""A plain graph that a build wrote says its contract itself: it is all that the next build needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from posert.export.configs import read_description
from posert.export.graph.from_onnx import from_onnx
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.cli.main import main
from posert.runtime.datasets import dataset
from posert.runtime.errors import ConfigError

SQUARE = Contract(
    dataset="mouse", keypoints=("nose", "tail"), flip_pairs=(), skeleton=(), sigmas=(), width=64, height=64,
    heatmap_width=128, heatmap_height=128, decode="simcc", model_color="BGR", padding=1.1, flip_shift=False,
)  # fmt: skip


def vectors(path: Path) -> Path:
    """A SimCC network of square crops, whose two outputs only their names or their order tell apart."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(0, 0.1, (2, 3, 8, 8)), "a": random.normal(0, 1, (64, 128))}
    weights["b"] = random.normal(0, 1, (64, 128))
    tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "w"], ["maps"], strides=[8, 8]),
            helper.make_node("Reshape", ["maps", "size"], ["cells"]),
            helper.make_node("MatMul", ["cells", "a"], ["simcc_x"]),
            helper.make_node("MatMul", ["cells", "b"], ["simcc_y"]),
        ],
        "vectors",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 64, 64])],
        [helper.make_tensor_value_info(f"simcc_{axis}", TensorProto.FLOAT, ["N", 2, 128]) for axis in "xy"],
        [*tensors, numpy_helper.from_array(np.array([0, 2, 64]), "size")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.save(model, path)
    return path


def test_what_a_build_wrote_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, contract, plain = vectors(tmp_path / "net.onnx"), tmp_path / "contract.yaml", tmp_path / "plain.onnx"
    contract.write_text(yaml.safe_dump(json.loads(json.dumps(SQUARE.to_json()))))
    bundles = [tmp_path / "first.pose", tmp_path / "again.pose"]
    given = ["--network", str(network), "--contract", str(contract), "--onnx", str(plain)]
    assert main(["build", *given, "--precision", "fp32", "--limit", "1", "--output", str(bundles[0])]) == 0
    capsys.readouterr()

    assert main(["contract", str(plain), "--json"]) == 0
    assert Contract.from_values(json.loads(capsys.readouterr().out)["contract"], "what it says") == SQUARE
    arguments = ["--precision", "fp32", "--limit", "1", "--output", str(bundles[1])]
    assert main(["build", "--network", str(plain), *arguments]) == 0

    graphs = []
    for path in bundles:
        with Bundle(path) as bundle:
            assert bundle.contract == SQUARE
            graphs.append(bundle.read(bundle.artifacts["fp32"]))
            assert not onnx.load_from_string(graphs[-1]).metadata_props  # the bundle says it itself
    assert graphs[0] == graphs[1]


def test_another_contract_beside_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, contract = vectors(tmp_path / "net.onnx"), tmp_path / "contract.yaml"
    model = onnx.load(network)
    model.metadata_props.add(key="posert.contract", value=json.dumps(SQUARE.to_json()))
    onnx.save(model, network)
    contract.write_text(yaml.safe_dump(json.loads(json.dumps(replace(SQUARE, padding=1.25).to_json()))))
    arguments = ["--precision", "fp32", "--limit", "1", "--output", str(tmp_path / "a.pose")]
    assert main(["build", "--network", str(network), "--contract", str(contract), *arguments]) == 0
    with Bundle(tmp_path / "a.pose") as bundle:
        assert bundle.contract.padding == 1.25
        note = bundle.manifest["model"]["checkpoint"]["note"]
    told = "the given file says padding 1.25 and not 1.1, which net.onnx says of itself"
    assert told in note and told in " ".join(capsys.readouterr().err.split())


def test_what_dwpose_publishes(tmp_path: Path) -> None:
    """Its ONNX has 133 joints, one image at a time and an old operator set; its contract is in RTMPose's config."""
    whole = dataset("coco_wholebody")
    contract = replace(
        SQUARE, dataset=whole.name, keypoints=whole.keypoints, flip_pairs=whole.flip_pairs, sigmas=whole.sigmas,
        width=288, height=384, heatmap_width=576, heatmap_height=768,
    )  # fmt: skip
    random = np.random.default_rng(0)
    weights = {"w": (133, 3, 32, 32), "x": (108, 576), "y": (108, 768)}
    tensors = [
        numpy_helper.from_array(random.normal(0, 0.02, size).astype(np.float32), n) for n, size in weights.items()
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "w"], ["maps"], strides=[32, 32]),
            helper.make_node("Reshape", ["maps", "size"], ["cells"]),
            helper.make_node("MatMul", ["cells", "x"], ["simcc_x"]),
            helper.make_node("MatMul", ["cells", "y"], ["simcc_y"]),
        ],
        "dwpose",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 384, 288])],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 133, k])
            for n, k in (("simcc_x", 576), ("simcc_y", 768))
        ],
        [*tensors, numpy_helper.from_array(np.array([1, 133, 108]), "size")],
    )
    path = tmp_path / "dw-ll_ucoco_384.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    with pytest.raises(ConfigError, match=r"simcc_x float .1, 133, 576.; .*Give the config"):
        read_description(path)
    plain = from_onnx(path, contract, 19).model
    shapes = [[d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in plain.graph.output]
    assert shapes == [["N", 133, 576], ["N", 133, 768]]
