"""`posert compare --save`: polygraphy goes on where posert's comparison ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from posert.runtime.cli.main import main

pytest.importorskip("polygraphy", reason="polygraphy is not installed")


@pytest.mark.slow
def test_polygraphy_reads_it(narrow_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "save"
    line = ["compare", f"{narrow_bundle}:torchscript", f"{narrow_bundle}:fp32", "--limit", "1", "--save", str(folder)]
    assert main(line) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["inputs.json", "outputs.json", "run.sh", "second.onnx"]
    program = tmp_path / "bin" / "polygraphy"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom polygraphy.tools import main\nsys.exit(main())\n")
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(folder / "run.sh")], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "torchscript" in done.stdout, done.stdout + done.stderr
    model = onnx.load(folder / "second.onnx")
    weight = next(t for t in model.graph.initializer if t.name == "conv1.weight")
    array = np.ascontiguousarray(onnx.numpy_helper.to_array(weight)[:, ::-1])  # red and blue exchanged
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(model, folder / "second.onnx")
    done = subprocess.run(["sh", str(folder / "run.sh")], capture_output=True, text=True, env=env)
    assert done.returncode != 0 and "FAILED" in done.stdout


def test_what_cannot_be_saved(narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = [f"{narrow_bundle}:fp32", f"{narrow_bundle}:torchscript"]
    assert main(["compare", *pair, "--save", str(tmp_path / "out")]) == 2
    assert "needs an ONNX graph as the second of the two" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
