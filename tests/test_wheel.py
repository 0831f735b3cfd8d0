"""What a user gets: the wheel in an empty environment, in another folder, with one inference library.

The wheel is built from the source distribution, as a package index's users and distributors do.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

PROGRAM = """
import cv2
import numpy as np
import posert
from posert.runtime import BundleError, PoseEstimator

assert "site-packages" in posert.__file__, posert.__file__
frame = cv2.imread("people/images/000000.png")
pose = PoseEstimator("narrow.pose", threads=1)
people = pose(frame, [[208, 0, 308, 178]])
assert people.xy.shape == (1, 17, 2) and np.isfinite(people.xy).all()
assert people.score.shape == (1, 17)
try:
    PoseEstimator("people/annotations.json")
except BundleError as error:
    print(error)
else:
    raise AssertionError("a JSON file was opened as a bundle")
"""

# Each line has a type that has to come from the package: with `Any` in its place, --strict says nothing about it.
TYPED = """
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from posert.runtime import Bundle, Contract, Keypoints, PoseEstimator, PosertError, draw


def frames() -> Iterator[tuple[NDArray[np.uint8], list[list[float]]]]:
    yield np.zeros((240, 320, 3), np.uint8), [[0.0, 0.0, 100.0, 200.0]]


def main() -> None:
    pose = PoseEstimator("narrow.pose", threads=1)
    frame, boxes = next(frames())
    try:
        people: Keypoints = pose(frame, boxes)
    except PosertError as error:
        raise SystemExit(str(error)) from error
    contract: Contract = Bundle("narrow.pose").contract
    print(people.xy.mean(), contract.width)
    for found in pose.stream(frames()):
        reveal_type(found)
    reveal_type(draw)
    reveal_type(people.xy)
"""
WRONG = """
from posert.runtime import PoseEstimator

people = PoseEstimator(bundle_path=3)
people.keypoint
"""


def run(command: Sequence[str | Path], folder: Path, seconds: float = 600, expected: int = 0) -> str:
    """Standard output of a command, which sees nothing of this checkout and of this Python's packages."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH", "VIRTUAL_ENV")}
    environment["POSERT_CACHE"] = str(folder / "cache")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == expected, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    source = shutil.copytree(sources, folder / "posert")
    isolation = ["--no-isolation"] if importlib.util.find_spec("setuptools") else []
    run([sys.executable, "-m", "build", source, "--outdir", folder, *isolation], folder)
    (archive,), (wheel,) = folder.glob("posert-*.tar.gz"), folder.glob("posert-*.whl")
    return archive, wheel


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, distributions: tuple[Path, Path]) -> Path:
    """The `bin` of an environment that has the wheel with OpenVINO, and nothing else."""
    folder = tmp_path_factory.mktemp("edge")
    run([sys.executable, "-m", "venv", folder / "venv"], folder)
    wheel = f"posert[openvino] @ {distributions[1].as_uri()}"
    pip = [folder / "venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "-c", ROOT / "constraints.txt", wheel], folder)
    run([*pip, "check"], folder)
    installed = {package["name"] for package in json.loads(run([*pip, "list", "--format", "json"], folder))}
    assert not installed & {"torch", "onnx", "onnxruntime", "rich", "PyYAML", "scipy", "pycocotools"}
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, narrow_bundle: Path, demo_files: Path) -> Path:
    """What the user has: a bundle, four pictures with labels, right results, and what a demo needs torch for."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "narrow.pose").write_bytes(narrow_bundle.read_bytes())
    (folder / "out/demo").mkdir(parents=True)
    (folder / "out/demo/hrnet_demo.pose").write_bytes((demo_files / "demo.pose").read_bytes())
    (folder / "out/demo/demo_detector.onnx").write_bytes((demo_files / "detector.onnx").read_bytes())
    people = [sys.executable, "-m", "posert.export.demo.people", "--output", folder / "people", "--count", "4"]
    subprocess.run(people, check=True, capture_output=True)
    labels = json.loads((folder / "people/annotations.json").read_text())["annotations"]
    results = [{k: label[k] for k in ("image_id", "category_id", "keypoints")} | {"score": 1.0} for label in labels]
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_an_index_takes_them(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    run([sys.executable, "-m", "twine", "check", "--strict", *distributions], tmp_path)


def test_the_source_distribution_can_be_tested(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "CITATION.cff", "Makefile", "constraints.txt", "README.md", "CONTRIBUTING.md", ".ci/run"}
    needed |= {".ci/release", ".dockerignore", ".github/workflows/release.yml", "docker/Dockerfile"}
    tested = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    measured = {p.relative_to(ROOT).as_posix() for p in (ROOT / "benchmarks").rglob("*.py")}
    pages = (ROOT / "examples").rglob("*.md")
    shown = {other.relative_to(ROOT).as_posix() for page in pages for other in page.parent.iterdir() if other.is_file()}
    assert not (needed | tested | measured | shown | {"export/demo/training/train.py"}) - names


def test_the_license_travels(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith("dist-info/METADATA"))
        metadata = wheel.read(name).decode()
        text = wheel.read(name.replace("METADATA", "licenses/LICENSE")).decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "Apache License" in text and "Version 2.0, January 2004" in text and len(text) > 10_000


def test_the_api(edge: Path, folder: Path) -> None:
    assert "annotations.json" in run([edge / "python", "-c", PROGRAM], folder)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--version", "posert"),
        ("models", "hrnet_w32"),
        ("doctor", "openvino"),
        ("inspect narrow.pose", "narrow-coco-128x96"),
        ("verify narrow.pose", "openvino"),
        ("run narrow.pose people/images --boxes people/annotations.json --output drawn", "frames 4"),
        ("evaluate --dataset coco --annotations people/annotations.json --results results.json", "1.000"),
        ("demo --no-open", "page out/demo/demo.html"),
        ("bench narrow.pose --precision fp32 --mode latency --people 1 --rounds 1", "openvino fp32"),
    ],
    ids=lambda value: value.split()[0],
)
def test_commands(edge: Path, folder: Path, arguments: str, says: str) -> None:
    assert says in run([edge / "posert", *arguments.split()], folder)
    if arguments.startswith("run"):
        assert len(list((folder / "drawn").glob("*.png"))) == 4


def test_a_command_that_needs_more_says_what(edge: Path, folder: Path) -> None:
    command = [edge / "posert", "build", "--arch", "hrnet_demo", "--weights", "demo"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and 'pip install "posert[export]"' in done.stderr, done.stderr


def mypy(edge: Path, folder: Path, code: str, expected: int = 0) -> str:
    """What mypy --strict says of a user's script, of the installed package alone."""
    script = folder / "user_script.py"
    script.write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", folder / ".mypy_cache"]
    return run([*command, "--python-executable", edge / "python", script], folder, expected=expected)


def test_types_of_the_public_names(edge: Path, folder: Path) -> None:
    said = mypy(edge, folder, TYPED)
    revealed = [line for line in said.splitlines() if "Revealed type" in line]
    assert len(revealed) == 3 and not any('"Any"' in line for line in revealed), said
    assert "Keypoints" in revealed[0] and "def (" in revealed[1] and "ndarray" in revealed[2]


def test_mypy_reports_a_mistake(edge: Path, folder: Path) -> None:
    said = mypy(edge, folder, WRONG, expected=1)
    assert "bundle_path" in said and '"keypoint"' in said
