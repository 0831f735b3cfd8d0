"""Verification: the golden crops find a graph, a backend or a bundle that no longer gives the trained result."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from posert.export.graph.reference import Reference
from posert.runtime import PoseEstimator
from posert.runtime.accuracy.golden import check_session, relative_error
from posert.runtime.backends import installed_backends, load_backend
from posert.runtime.bundle.archive import Bundle, describe, write_bundle
from posert.runtime.cli.main import main
from posert.runtime.errors import BackendError, BundleError, InputError
from posert.runtime.pose.heads import Outputs

INSTALLED = list(installed_backends())


class Answer:
    """A session that gives these maps whatever it is shown."""

    def __init__(self, *outputs: NDArray[np.float32]) -> None:
        self.outputs = outputs

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        return self.outputs


def rewrite(
    path: Path, source: Path, *, heatmaps: NDArray[np.float32] | None = None, decode: str = "", **graphs: bytes
) -> Path:
    """The bundle again, properly written, with other graphs, golden heatmaps or decode rule: a build gone wrong."""
    with Bundle(source) as bundle:
        golden = bundle.golden()
        items = {}
        for name, artifact in bundle.artifacts.items():
            data = graphs.get(name, bundle.read(artifact))
            items[name] = (replace(artifact, **describe(data)), data)
        return write_bundle(
            path,
            name=bundle.name,
            model=bundle.manifest["model"],
            contract=replace(bundle.contract, decode=decode or bundle.contract.decode),
            graphs=items,
            golden=golden if heatmaps is None else replace(golden, outputs=(heatmaps,)),
            calibration=None,
            accuracy=bundle.accuracy,
            versions={},
        )


class _Writes(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        torch.ops.aten.save(crops, self.path)
        return crops


def altered(source: Path, factor: float) -> bytes:
    """The fp32 graph with one layer's weights changed."""
    with Bundle(source) as bundle:
        model = onnx.load_from_string(bundle.read(bundle.artifacts["fp32"]))
    weight = max((t for t in model.graph.initializer if len(t.dims) == 4), key=lambda t: np.prod(t.dims))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return model.SerializeToString()


class TestCheck:
    @pytest.fixture
    def parts(self, narrow_bundle: Path) -> tuple[Any, Any, Any]:
        with Bundle(narrow_bundle) as bundle:
            return bundle.artifacts["fp32"], bundle.golden(), bundle.contract

    def test_the_same_maps(self, parts: tuple[Any, Any, Any]) -> None:
        artifact, golden, contract = parts
        check = check_session(Answer(*golden.outputs), artifact, golden, contract)
        assert check.passed and check.error == 0 and check.drift == 0 and check.ms >= 0

    def test_a_reference_that_is_sure_of_no_joint(self, parts: tuple[Any, Any, Any]) -> None:
        artifact, golden, contract = parts
        below = replace(golden, outputs=(-1 - np.abs(golden.outputs[0]),))
        check = check_session(Answer(*below.outputs), artifact, below, contract)
        assert check.passed and check.drift == 0
        assert not check_session(Answer(*golden.outputs), artifact, below, contract).passed

    @pytest.mark.parametrize(
        ("precision", "measured", "bound"),
        [("fp32", 0.0, 1e-4), ("fp16", None, 2e-3), ("int8", 0.0, 2e-2), ("int8", 0.1, 0.2), ("fp32", 1e-3, 2e-3)],
    )
    def test_the_bound_is_twice_what_the_build_measured(
        self, parts: tuple[Any, Any, Any], precision: str, measured: float | None, bound: float
    ) -> None:
        artifact, golden, contract = parts
        artifact = replace(artifact, precision=precision, golden_error=measured)
        for factor, passed in ((0.95, True), (1.05, False)):
            maps = golden.outputs[0] * np.float32(1 + factor * bound)
            check = check_session(Answer(maps), artifact, golden, contract)
            assert check.bound == pytest.approx(bound)
            assert check.error == pytest.approx(factor * bound, rel=0.02)
            assert check.passed is passed

    def test_drift_is_in_px_of_the_crop(self, parts: tuple[Any, Any, Any]) -> None:
        artifact, golden, contract = parts
        maps = np.zeros_like(golden.outputs[0])
        maps[:, :, 10, 10] = 1
        moved = np.zeros_like(maps)
        moved[:, :, 10, 10] = 1
        moved[1, 4] = 0
        moved[1, 4, 13, 14] = 1  # 4 cells to the right, 3 down; a cell is 4 px
        check = check_session(Answer(moved), artifact, replace(golden, outputs=(maps,)), contract)
        assert check.drift == pytest.approx(20) and not check.passed

    def test_nan_does_not_pass(self, parts: tuple[Any, Any, Any]) -> None:
        artifact, golden, contract = parts
        for value in (np.nan, np.inf):
            maps = golden.outputs[0].copy()
            maps[0, 0, 0, 0] = value
            check = check_session(Answer(maps), artifact, golden, contract)
            assert (check.passed, check.error, check.drift) == (False, None, None)

    def test_a_graph_of_another_model(self, parts: tuple[Any, Any, Any]) -> None:
        artifact, golden, contract = parts
        with pytest.raises(BackendError, match="belongs to another model"):
            check_session(Answer(golden.outputs[0][:, :5]), artifact, golden, contract)

    def test_golden_outputs_that_the_rule_does_not_read(self, parts: tuple[Any, Any, Any]) -> None:
        artifact, golden, contract = parts
        with pytest.raises(InputError, match=r"the decode rule 'udp_combined' .* reads \(51, 32, 24\)"):
            check_session(Answer(*golden.outputs), artifact, golden, replace(contract, decode="udp_combined"))

    def test_of_several_outputs_the_worst_counts(self) -> None:
        one, two = np.ones((2, 3, 4), np.float32), np.full((2, 3, 5), 2, np.float32)
        assert relative_error((one, two), (one, two)) == 0
        assert relative_error((one * 1.01, two * 1.2), (one, two)) == pytest.approx(0.2)
        assert np.isnan(relative_error((one * np.nan, two), (one, two)))


class TestCommand:
    def test_every_graph_on_every_backend(self, narrow_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify", str(narrow_bundle), "--json", "--threads", "1"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["passed"] is True and result["members"] == "intact"
        expected = [
            (b, p) for b, s in installed_backends().items() for p, graph in s.runnable().items() if graph == "fp32"
        ]
        assert [(r["backend"], r["precision"]) for r in result["rows"]] == expected
        assert [r["backend"] for r in result["skipped"]] == ["torchscript"]
        assert all(r["error"] < r["bound"] and r["passed"] for r in result["rows"])

    def test_a_program_runs_only_where_it_is_asked_for(
        self, narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """TorchScript can write files."""

        written = tmp_path / "written"
        module = torch.jit.script(_Writes(str(written)))
        torch.jit.save(module, str(tmp_path / "program.pt"))
        path = rewrite(tmp_path / "b.pose", narrow_bundle, torchscript=(tmp_path / "program.pt").read_bytes())
        for arguments in ([], ["--precision", "fp32"], ["--json"]):
            assert main(["verify", str(path), *arguments]) == 0
            assert not written.exists()
        assert "torchscript        not run: TorchScript is a program" in capsys.readouterr().out
        assert main(["verify", str(path), "--backend", "torchscript"]) != 0
        assert written.exists()

    def test_in_words(self, narrow_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify", str(narrow_bundle), "--backend", INSTALLED[0], "--precision", "fp32"]) == 0
        out = capsys.readouterr().out
        assert "intact. Error of the outputs on 2 golden crop(s)" in out and out.count(": ok\n") == 1
        assert "This machine reproduces the results of the build." in out

    def test_a_backend_that_refuses_is_a_row(
        self, narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = INSTALLED[0]

        def refuse(*arguments: Any) -> Any:
            raise BackendError("no such operator")

        refusing = replace(load_backend(first), open=refuse)
        monkeypatch.setattr(sys.modules[f"posert.runtime.backends.{first}"], "BACKEND", refusing)
        assert main(["verify", str(narrow_bundle), "--json"]) == 1
        result = json.loads(capsys.readouterr().out)
        refused = [r for r in result["rows"] if r["backend"] == first]
        others = [r for r in result["rows"] if r["backend"] != first]
        assert not result["passed"] and refused and others and all(r["passed"] for r in others)
        assert all(r["reason"].endswith(": no such operator") and not r["passed"] for r in refused)
        assert main(["verify", str(narrow_bundle)]) == 1
        assert "narrow.pose: no such operator" in capsys.readouterr().out
        assert main(["verify", str(narrow_bundle), "--backend", first]) == 1
        assert "Nothing was compared: no row can run on this machine" in capsys.readouterr().out

    def test_a_graph_that_computes_something_else(
        self, narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its hash is right, so only the golden crops can tell."""
        path = rewrite(tmp_path / "b.pose", narrow_bundle, fp32=altered(narrow_bundle, 1.1))
        assert main(["verify", str(path), "--json"]) == 1
        result = json.loads(capsys.readouterr().out)
        assert result["passed"] is False
        assert {r["backend"]: r["passed"] for r in result["rows"]} == {b: False for b in INSTALLED if "torch" not in b}
        assert main(["verify", str(path), "--backend", "torchscript"]) == 0
        capsys.readouterr()
        assert main(["verify", str(path)]) == 1
        assert "DIFFERS" in (out := capsys.readouterr().out) and "does NOT reproduce" in out

    def test_a_graph_that_gives_nan_is_valid_json_too(
        self, narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = rewrite(tmp_path / "b.pose", narrow_bundle, fp32=altered(narrow_bundle, float("nan")))
        assert main(["verify", str(path), "--json", "--backend", "onnxruntime"]) == 1

        def refuse(name: str) -> None:
            raise AssertionError(name)

        result = json.loads(capsys.readouterr().out, parse_constant=refuse)
        assert result["rows"][0]["error"] is None
        assert main(["verify", str(path), "--backend", "onnxruntime"]) == 1
        assert "gives NaN or infinity: DIFFERS" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--backend", "opnvino"], "Did you mean openvino"),
            (["--precision", "int8"], "posert build --precision int8"),
            (["--backend", "torchscript", "--precision", "fp16"], "fp16"),
            (["--threads", "0"], "1 or more, got '0'"),
            (["--precision", "fp32,int8"], "posert build --precision int8"),
        ],
    )
    def test_the_users_mistakes(
        self, narrow_bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        assert main(["verify", str(narrow_bundle), *arguments]) == 2
        assert message in capsys.readouterr().err

    def test_a_decode_rule_that_there_is_not(
        self, narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = rewrite(tmp_path / "rule.pose", narrow_bundle, decode="unbaised")
        assert main(["verify", str(path)]) == 2
        assert f"{path}: unknown decode rule 'unbaised'. Did you mean unbiased?" in capsys.readouterr().err
        with pytest.raises(BundleError, match=f"^{re.escape(str(path))}: unknown decode rule 'unbaised'"):
            PoseEstimator(path)

    def test_golden_outputs_of_another_contract(
        self, narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = rewrite(tmp_path / "rule.pose", narrow_bundle, decode="udp_combined")
        assert main(["verify", str(path)]) == 2
        assert f"{path}: its golden outputs do not fit its contract: the network's outputs" in capsys.readouterr().err

    def test_a_damaged_bundle(self, narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data = bytearray(narrow_bundle.read_bytes())
        data[len(data) // 2] ^= 1
        path = tmp_path / "b.pose"
        path.write_bytes(data)
        assert main(["verify", str(path), "--json"]) == 2
        seen = capsys.readouterr()
        assert json.loads(seen.out)["kind"] == "BundleError" and "damaged" in seen.err


def test_the_reference_verifies_itself(narrow_bundle: Path, narrow_reference: Reference) -> None:
    with Bundle(narrow_bundle) as bundle:
        check = check_session(narrow_reference, bundle.artifacts["fp32"], bundle.golden(), bundle.contract)
    assert check.passed and check.drift == 0
