"""`posert export polygraphy`: polygraphy's own commands pass on what is written, and fail on a wrong graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from posert.runtime.cli.main import main

pytest.importorskip("polygraphy", reason="polygraphy is not installed")
Export = Callable[..., int]


@pytest.fixture
def export(narrow_bundle: Path, tmp_path: Path) -> Export:
    def run(*options: object) -> int:
        return main(["export", "polygraphy", str(narrow_bundle), "--output", str(tmp_path / "out"), *map(str, options)])

    return run


@pytest.fixture
def path_of_polygraphy(tmp_path: Path) -> dict[str, str]:
    """An environment whose `polygraphy` is that of this Python, in which posert cannot be imported."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "polygraphy"
    code = "import sys\nsys.modules['posert'] = None\nfrom polygraphy.tools import main\nsys.exit(main())\n"
    script.write_text(f"#!{sys.executable}\n{code}")
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def plant_a_fault(path: Path) -> None:
    """Red and blue are exchanged, as in a graph whose colour order somebody got wrong."""
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "conv1.weight")
    array = np.ascontiguousarray(onnx.numpy_helper.to_array(weight)[:, ::-1])
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keypoints", "heatmaps"])
def test_its_commands_pass_and_a_fault_fails(
    export: Export, tmp_path: Path, path_of_polygraphy: dict[str, str], kind: str
) -> None:
    assert export("--output-kind", kind) == 0
    out = tmp_path / "out"
    line = ["sh", str(out / "run.sh")]
    done = subprocess.run(line, capture_output=True, text=True, env=path_of_polygraphy, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "are allowed" in done.stdout and "Accuracy results passed" in done.stdout
    plant_a_fault(out / "narrow.fp32.onnx")
    done = subprocess.run(line, capture_output=True, text=True, env=path_of_polygraphy, timeout=300)
    assert done.returncode != 0 and "FAILED" in done.stdout


def test_compare_in_px(export: Export, tmp_path: Path) -> None:
    assert export() == 0
    scope: dict[str, object] = {"__file__": str(tmp_path / "out" / "compare.py"), "__name__": "compare"}
    exec((tmp_path / "out" / "compare.py").read_text(), scope)
    compare = scope["compare_outputs"]
    golden = np.load(tmp_path / "out" / "golden.npz")
    joints, sure = golden["keypoints"], golden["sure"]
    assert callable(compare) and sure.any()
    moved, unsure = joints.copy(), joints.copy()
    moved[tuple(np.argwhere(sure)[0])][:2] += golden["tolerance"]  # along both axes: by more than is allowed
    unsure[~sure] += 50
    assert compare({"keypoints": joints}, {"keypoints": unsure}) == {"keypoints": True}
    assert compare({"keypoints": joints}, {"keypoints": moved}) == {"keypoints": False}


def test_what_trtexec_reads(export: Export, tmp_path: Path) -> None:
    assert export("--output-kind", "heatmaps", "--input", "normalised") == 0
    out = tmp_path / "out"
    golden = np.load(out / "golden.npz")
    for name, array in (("images", golden["input"]), ("heatmaps", golden["outputs_0"])):
        np.testing.assert_array_equal(np.fromfile(out / "trtexec" / f"{name}.bin", np.float32), array.ravel())
    text = (out / "trtexec.sh").read_text()
    assert "--shapes=images:2x3x128x96 " in text and "--loadRefOutputs=heatmaps:trtexec/heatmaps.bin" in text
    assert "--accuracyThreshold" in text and "--refPair=" not in text  # what trtexec 11 wants of one pair
    run = json.loads((out / "outputs.json").read_text())
    assert run  # polygraphy's own file, which the commands above read


@pytest.mark.slow
def test_other_quantizers_calibrate_on_it(export: Export, tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    assert export("--output-kind", "heatmaps", "--calib", "demo") == 0
    out = tmp_path / "out"
    scope: dict[str, object] = {"__file__": str(out / "data_loader.py"), "__name__": "data_loader"}
    exec((out / "data_loader.py").read_text(), scope)
    (golden,) = list(scope["load_data"]())  # type: ignore[operator]
    assert {name: array.shape for name, array in golden.items()} == {"crops": (2, 128, 96, 3)}
    with np.load(out / "calibration.npz") as crops:
        assert list(crops) == ["crops"] and crops["crops"].shape[1:] == (128, 96, 3) and len(crops["crops"]) > 50

    class Reader(CalibrationDataReader):
        """The first crops are enough to see that ONNX Runtime takes them."""

        def __init__(self) -> None:
            self.all, self.left = scope["CalibrationReader"](), 4  # type: ignore[operator]

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            return self.all.get_next() if self.left >= 0 else None

    quantize_static(out / "narrow.fp32.onnx", tmp_path / "int8.onnx", Reader(), quant_format=QuantFormat.QDQ)
    assert any(node.op_type == "DequantizeLinear" for node in onnx.load(tmp_path / "int8.onnx").graph.node)


def test_what_is_missing_is_told(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export("--calib", tmp_path / "no.json") == 2
    assert "--calib-images" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert export() == 2
    assert 'pip install "posert[polygraphy]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
