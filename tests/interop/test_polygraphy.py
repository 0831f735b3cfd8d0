"""Our graphs in NVIDIA's Polygraphy: its runner gives what our sessions give, and its command reads what we export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from posert.export.graph.reference import Reference, random_crops
from posert.runtime.bundle.archive import Bundle
from posert.runtime.selection import open_session

pytest.importorskip("polygraphy")
onnxrt = pytest.importorskip("polygraphy.backend.onnxrt")


@pytest.fixture(scope="module")
def graph(narrow_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 graph of a bundle, as a file."""
    bundle = Bundle(narrow_bundle)
    path = tmp_path_factory.mktemp("graph") / "fp32.onnx"
    path.write_bytes(bundle.read(bundle.artifacts["fp32"]))
    return path


def test_its_runner_agrees_with_our_session(graph: Path, narrow_bundle: Path, narrow_reference: Reference) -> None:
    crops = random_crops(narrow_reference.contract, 3)
    ours = np.asarray(open_session(Bundle(narrow_bundle), "onnxruntime", "fp32", threads=1).infer(crops))
    with onnxrt.OnnxrtRunner(onnxrt.SessionFromOnnx(str(graph), providers=["cpu"])) as runner:
        (inputs,) = runner.get_input_metadata()
        (theirs,) = runner.infer({inputs: crops}).values()
    np.testing.assert_array_equal(theirs, ours.reshape(theirs.shape))


def test_its_comparison_with_pytorch(graph: Path, narrow_reference: Reference) -> None:
    """The figure of `posert verify`, by their comparator instead of ours."""
    comparator = pytest.importorskip("polygraphy.comparator")
    crops = random_crops(narrow_reference.contract, 2)
    expected = comparator.IterationResult({"heatmaps": narrow_reference.infer(crops)[0]}, runner_name="pytorch")
    found = comparator.Comparator.run(
        [onnxrt.OnnxrtRunner(onnxrt.SessionFromOnnx(str(graph), providers=["cpu"]))], data_loader=[{"crops": crops}]
    )
    (result,) = found[0][1]
    largest = float(np.abs(expected["heatmaps"]).max())
    for atol, same in ((1e-4 * largest, True), (1e-9 * largest, False)):
        compare = comparator.SimpleCompareFunc(atol=atol, rtol=0)
        assert all(compare(result, expected).values()) is same


def test_its_command_reads_our_graph(graph: Path) -> None:
    program = "import sys; from polygraphy.tools import main; sys.exit(main())"  # what its script `polygraphy` does
    command = [sys.executable, "-c", program, "inspect", "model", str(graph), "--show", "layers"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    nodes = len(onnx.load(graph).graph.node)
    assert f"{nodes} Node" in said.stdout
    assert "crops [dtype=uint8" in said.stdout and "heatmaps [dtype=float32" in said.stdout
