"""`posert export`: what is written runs in other libraries, by the script beside it, which does not import posert."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from posert.export.formats import FORMATS
from posert.export.formats._graph import metadata, wanted_graph
from posert.runtime.bundle.archive import Bundle, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.cli.main import main
from posert.tests.campaign.bundles import members, sealed

Run = Callable[..., int]


@pytest.fixture
def export(narrow_bundle: Path, tmp_path: Path) -> Run:
    def run(name: str, *options: str, bundle: Path = narrow_bundle) -> int:
        return main(["export", name, str(bundle), "--output", str(tmp_path / "out"), *options])

    return run


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the emitted script where posert cannot be imported."""
    code = "import sys; sys.modules['posert'] = None; sys.argv = sys.argv[1:]; import runpy; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    line = [sys.executable, "-c", code, str(folder / "run.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["keypoints", "heatmaps"])
@pytest.mark.parametrize("given", ["uint8", "float", "normalised"])
def test_onnx(export: Run, tmp_path: Path, given: str, kind: str) -> None:
    assert export("onnx", "--input", given, "--output-kind", kind) == 0
    folder = tmp_path / "out"
    assert sorted(p.name for p in folder.iterdir()) == [
        "golden.npz",
        "narrow.fp32.onnx",
        "narrow.fp32.onnx.json",
        "posert-export.json",
        "run.py",
    ]
    for library in ("onnxruntime", "openvino"):
        done = script(folder, library)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "narrow.fp32.onnx: " in done.stdout
    facts = json.loads((folder / "narrow.fp32.onnx.json").read_text())
    model = onnx.load(folder / "narrow.fp32.onnx")
    (value,) = model.graph.input
    shape = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    assert (facts["input"]["name"], facts["input"]["shape"]) == (value.name, shape)
    assert [one["name"] for one in facts["outputs"]] == [output.name for output in model.graph.output]


def test_a_wrong_graph_fails_its_script(export: Run, tmp_path: Path) -> None:
    assert export("onnx") == 0
    folder = tmp_path / "out"
    path = folder / "narrow.fp32.onnx"
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "conv1.weight")
    array = onnx.numpy_helper.to_array(weight)[:, ::-1]  # red and blue exchanged
    weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), weight.name))
    onnx.save(model, path)
    done = script(folder)
    assert done.returncode == 1 and "are allowed" in done.stdout


def test_the_contract_is_where_other_tools_look(export: Run, tmp_path: Path, narrow_bundle: Path) -> None:
    """Names and types as ultralytics' AutoBackend and Model API's `load_parameters_from_onnx` read them."""
    assert export("onnx") == 0
    props = {p.key: p.value for p in onnx.load(tmp_path / "out" / "narrow.fp32.onnx").metadata_props}
    read = {k: ast.literal_eval(props[k]) for k in ("imgsz", "names", "kpt_shape", "kpt_names", "args")}
    assert (read["imgsz"], read["kpt_shape"], read["names"]) == ([128, 96], [17, 3], {0: "person"})
    assert read["kpt_names"][0][0] == "nose" and props["task"] == "pose"
    assert [int(props[k]) for k in ("stride", "batch", "channels")] == [4, 1, 3]
    assert props["model_info labels"].split()[:2] == ["nose", "left_eye"]
    with Bundle(narrow_bundle) as bundle:
        assert Contract.from_json(json.loads(props["posert.contract"])) == bundle.contract
        assert props["posert.graph"] == bundle.artifacts["fp32"].sha256


def test_torchscript(export: Run, tmp_path: Path, narrow_bundle: Path) -> None:
    assert export("torchscript") == 0
    done = script(tmp_path / "out")
    assert done.returncode == 0 and "17 joints" in done.stdout, done.stderr
    extra = {"contract.json": ""}
    module = torch.jit.load(tmp_path / "out" / "narrow.pt", _extra_files=extra)
    with Bundle(narrow_bundle) as bundle:
        assert Contract.from_json(json.loads(extra["contract.json"])["contract"]) == bundle.contract
        golden = bundle.golden()
    with torch.inference_mode():
        found = module(torch.from_numpy(golden.crops)).numpy()
    # folded batch-norms add in another order than the module that gave the golden outputs
    np.testing.assert_allclose(found, golden.outputs[0], atol=1e-5)
    assert str(Path.home()).encode() not in (tmp_path / "out" / "narrow.pt").read_bytes()


def test_engine(export: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    assert export("engine", "--precision", "fp32", "--target", "sm86,sm89") == 0
    names = [f"narrow.tensorrt_rtx.{target}.fp32.engine" for target in ("sm86", "sm89")]
    found = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert found == sorted([*names, *(f"{name}.json" for name in names), "posert-export.json"])
    assert main(["inspect", str(tmp_path / "out" / names[0])]) == 0


def test_what_cannot_be_exported_is_told_before_any_work(
    export: Run,
    narrow_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with Bundle(narrow_bundle) as bundle:
        graphs = {"fp32": (bundle.artifacts["fp32"], bundle.read(bundle.artifacts["fp32"]))}
        contract = Contract.from_json({**bundle.contract.to_json(), "decode": "mine"})
        rest = {"name": "odd", "model": bundle.manifest["model"], "golden": bundle.golden(), "calibration": None}
        rest |= {"accuracy": {"verdict": "unproven", "rows": []}, "versions": {}}
        odd = write_bundle(tmp_path / "odd.pose", contract=contract, graphs=graphs, **rest)
    for name, options, bundle_path, message in (
        ("onx", (), narrow_bundle, "unknown format 'onx'. Did you mean onnx"),
        ("onnx", ("--precision", "int8"), narrow_bundle, "unknown graph 'int8'"),
        ("onnx", ("--precision", "torchscript"), narrow_bundle, "unknown graph 'torchscript'"),
        ("onnx", (), odd, "'mine' has no graph form"),
        ("torchscript", (), odd, "has no TorchScript module"),
        ("engine", (), narrow_bundle, "is not installed"),
        ("engine", ("--target", "ampere"), narrow_bundle, "--target ampere: expected a compute capability"),
        ("onnx", (), tmp_path / "nosuch.pose", "no such file"),
    ):
        assert export(name, *options, bundle=bundle_path) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert export("onnx") == 2
    assert "posert export did not write it" in capsys.readouterr().err


def test_every_format_can_be_listed() -> None:
    assert {"engine", "onnx", "torchscript"} <= set(FORMATS.names())
    assert main(["export", "onnx", "--help"]) == 0


def test_the_class_of_other_animals(narrow_bundle: Path) -> None:
    import argparse

    with Bundle(narrow_bundle) as bundle:
        bundle.contract = Contract.from_json({**bundle.contract.to_json(), "dataset": "mouse"})
        args = argparse.Namespace(precision="fp32", input="uint8", output_kind="keypoints")
        assert metadata(bundle, wanted_graph(bundle, args))["names"] == "{0: 'mouse'}"


@pytest.mark.parametrize(
    ("member", "name", "message"),
    [
        ("fp32.onnx", "onnx", "hostile.pose: fp32.onnx: no valid ONNX graph"),
        ("fp32.onnx", "triton", "hostile.pose: fp32.onnx: no valid ONNX graph"),
        ("torchscript.pt", "torchscript", "hostile.pose: its TorchScript module is no archive that can be read"),
    ],
)
def test_a_graph_that_is_none_under_a_right_seal(
    export: Run, narrow_bundle: Path, tmp_path: Path, capsys: Any, member: str, name: str, message: str
) -> None:
    held = members(narrow_bundle)
    if member == "fp32.onnx":
        model = onnx.load_from_string(held[member])
        model.graph.node[5].attribute.append(onnx.helper.make_attribute("nowhere", 1))
        held[member] = model.SerializeToString()
    else:
        held[member] = held[member][:-30]
    bundle = tmp_path / "hostile.pose"
    bundle.write_bytes(sealed(held))
    assert export(name, bundle=bundle) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
