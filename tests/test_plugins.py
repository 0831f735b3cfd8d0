"""CONTRIBUTING's examples, one per registry: each as one file in its folder, and as a package that somebody installed.

Both times the registry's tests pass and the command line uses it; nothing else is touched. An example is a block of
CONTRIBUTING.md behind a comment `<!-- example: KIND FILE.py -->`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^<!-- example: (\w+) (\w+)\.py -->\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {kind: (name, code) for kind, name, code in BLOCK.findall(TEXT)}


@dataclass(frozen=True)
class Kind:
    """A registry: its folder, the object of a file, the group of entry points ("": none), and its tests."""

    folder: str
    attribute: str
    group: str
    tests: str


KINDS = {
    "arch": Kind("export/archs", "ARCHITECTURES", "posert.archs", "tests/export/test_archs.py"),
    "backend": Kind("runtime/backends", "BACKEND", "posert.backends", "tests/runtime/backends/test_backends.py"),
    "dataset": Kind("runtime/datasets", "DATASET", "posert.datasets", "tests/runtime/datasets/test_datasets.py"),
    "format": Kind("runtime/results", "FORMAT", "posert.results", "tests/runtime/results/test_results.py"),
    "head": Kind("runtime/pose/heads", "HEAD", "posert.heads", "tests/runtime/pose"),
    "command": Kind("runtime/cli/commands", "COMMAND", "", "tests/runtime/cli/test_cli.py"),
}
# Goldens of the published networks take a minute and know nothing of a new one; nor do what is run once for each of the
# other backends.
LEFT_OUT = "not test_output and not openvino and not torchscript"


@dataclass(frozen=True)
class House:
    """posert and an entry more of each kind: where its tests lie, what makes Python find it, and a folder to work in.

    `name` is that of the entry that is looked at.
    """

    root: Path
    path: Path
    folder: Path
    name: str = ""

    def python(self, *arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        path = os.pathsep.join([str(self.path), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment |= {"PYTHONPATH": path, "POSERT_CACHE": str(self.folder / "cache")}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=folder or self.folder, env=environment, capture_output=True, text=True, timeout=900
        )

    def says(self, *arguments: str | Path) -> str:
        """Standard output of a Python that ends well."""
        done = self.python(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def posert(self, line: str) -> str:
        """Standard output of a command."""
        return self.says("-m", "posert.runtime.cli", *line.split())


def install(folder: Path, package: str, group: str, value: str, code: str) -> Path:
    """A folder for sys.path in which pip would have put a package of one module with one entry point."""
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{value}\n")
    (folder / f"{package}.py").write_text(code)
    return folder


WAYS = {"file": list(KINDS), "package": [kind for kind, found in KINDS.items() if found.group]}


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory, sources: Path, narrow_bundle: Path) -> dict[str, House]:
    """posert with all of CONTRIBUTING's examples, by the way that they came."""
    made = {}
    for way, kinds in WAYS.items():
        folder = tmp_path_factory.mktemp(way)
        work, path, root = folder / "work", folder / "path", ROOT
        work.mkdir()
        path.mkdir()
        shutil.copy(narrow_bundle, work / "narrow.pose")
        if way == "file":
            root = folder / "checkout"
            shutil.copytree(sources, root)
            (path / "posert").symlink_to(root, target_is_directory=True)
        for kind in kinds:
            (name, code), found = EXAMPLES[kind], KINDS[kind]
            if way == "package":
                install(path, f"their_{name}", found.group, f"{name} = their_{name}:{found.attribute}", code)
                continue
            target = root / found.folder / f"{name}.py"
            assert target.parent.is_dir() and not target.exists()
            target.write_text(code)
        made[way] = House(root, path, work)
    return made


@pytest.mark.parametrize("way", WAYS)
def test_their_tests_pass(way: str, houses: dict[str, House]) -> None:
    here, kinds = houses[way], WAYS[way]
    tests = ["tests/test_registries.py", "tests/export/test_catalog.py", *(KINDS[kind].tests for kind in kinds)]
    options = ["-v", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", LEFT_OUT]
    done = here.python("-m", "pytest", *options, *tests, folder=here.root)
    assert done.returncode == 0, done.stdout[-6000:]
    for kind in kinds:  # the tests of the registry know the new entry: one of them has its name
        file, name = KINDS[kind].tests, EXAMPLES[kind][0]
        assert re.search(rf"^{file}.*::.*\b{name}\b.* PASSED", done.stdout, re.MULTILINE), done.stdout[-6000:]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_this_copy(way: str, houses: dict[str, House]) -> None:
    """Not another posert of this Python."""
    here = houses[way]
    seen = Path(here.says("-c", "import posert.runtime; print(posert.runtime.__file__)").strip())
    assert seen.resolve() == (here.root / "runtime/__init__.py").resolve()


@pytest.mark.parametrize(("way", "kind"), [(way, kind) for way, kinds in WAYS.items() for kind in kinds])
def test_the_command_line_uses_it(way: str, kind: str, houses: dict[str, House], tmp_path: Path) -> None:
    here = houses[way]
    shutil.copy(here.folder / "narrow.pose", tmp_path / "narrow.pose")
    USES[kind](replace(here, folder=tmp_path, name=EXAMPLES[kind][0]))


def people(here: House) -> None:
    """Four pictures with labels in people/."""
    here.says("-m", "posert.export.demo.people", "--output", "people", "--count", "4")


def points(path: Path) -> list[float]:
    """x, y and score of all joints of all people, in order, of what `posert run` wrote."""
    frames = json.loads(path.read_text())["frames"]
    return [v for frame in frames for person in frame["people"] for joint in person["keypoints"] for v in joint]


def use_arch(here: House) -> None:
    (row,) = [row for row in json.loads(here.posert("models --json")) if row["arch"] == here.name]
    save = (
        "import torch\nfrom posert.export.archs import build_arch\ntorch.manual_seed(0)\n"
        f"torch.save(build_arch({here.name!r}, 17).state_dict(), 'weights.pth')"
    )
    here.says("-c", save)
    here.posert(f"build --model {row['id']} --weights weights.pth --precision fp32 --limit 1 --output own.pose")
    assert here.name in here.posert("inspect own.pose")
    assert "openvino" in here.posert("verify own.pose")
    people(here)
    here.posert("run own.pose people/images --boxes people/annotations.json --output drawn")
    assert points(here.folder / "drawn/keypoints.json")


def use_backend(here: House) -> None:
    (state,) = [b["state"] for b in json.loads(here.posert("doctor --json"))["backends"] if b["backend"] == here.name]
    assert state == "ready"
    people(here)
    run = "run narrow.pose people/images --boxes people/annotations.json --precision fp32"
    here.posert(f"{run} --backend {here.name} --output theirs")
    here.posert(f"{run} --backend onnxruntime --output ours")
    theirs, ours = (points(here.folder / side / "keypoints.json") for side in ("theirs", "ours"))
    assert len(theirs) == len(ours) > 200
    # Scores are float32 sums in another order; a joint may move where two cells of a noisy map are nearly equal.
    agree = sum(abs(a - b) <= 1e-3 * (1 + abs(b)) for a, b in zip(theirs, ours, strict=True))
    assert agree >= 0.99 * len(ours)
    assert here.name in here.posert(f"verify narrow.pose --backend {here.name} --precision fp32")


def use_dataset(here: House) -> None:
    listed = f"from posert.runtime.datasets import dataset; print(len(dataset({here.name!r}).keypoints))"
    joints = int(here.says("-c", listed))
    labels = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    for number in range(1, 6):
        keypoints = [v for j in range(joints) for v in (20 + 7 * j + number, 30 + (j * j * number) % 150, 2)]
        labels["images"].append({"id": number, "file_name": f"{number}.jpg", "width": 320, "height": 240})
        labels["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 20000, "num_keypoints": joints}
            | {"bbox": [20, 30, 200, 180], "keypoints": keypoints}
        )
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in labels["annotations"]
    ]
    (here.folder / "labels.json").write_text(json.dumps(labels))
    (here.folder / "right.json").write_text(json.dumps(results))
    for result in results[2:]:
        result["keypoints"] = [v + 1000 * (i % 3 == 0) for i, v in enumerate(result["keypoints"])]
    (here.folder / "wrong.json").write_text(json.dumps(results))
    scored = f"evaluate --dataset {here.name} --annotations labels.json --json --results"
    assert json.loads(here.posert(f"{scored} right.json"))["metrics"]["AP"] == pytest.approx(1)
    assert 0 < json.loads(here.posert(f"{scored} wrong.json"))["metrics"]["AR"] < 0.5  # two of five people


CHECK_HEAD = """
import dataclasses, sys
import numpy as np
from posert.runtime.bundle.archive import Bundle, write_bundle
from posert.runtime.pose.heads import head

name = sys.argv[1]
with Bundle("narrow.pose") as bundle:
    contract = dataclasses.replace(bundle.contract, decode=name)
    ((joints, height, width),) = head(name).shapes(contract)
    maps = np.zeros((1, joints, height, width), np.float32)
    maps[0, :, 7, 5] = 50
    xy, score = head(name).decode((maps,), contract)
    assert np.allclose(xy, [5, 7], atol=1e-3), xy
    assert score.shape == (1, joints)
    manifest = bundle.manifest
    write_bundle(
        __import__("pathlib").Path("own.pose"),
        name="own",
        model=manifest["model"],
        contract=contract,
        graphs={key: (artifact, bundle.read(artifact)) for key, artifact in bundle.artifacts.items()},
        golden=bundle.golden(),
        calibration=None,
        accuracy=manifest["accuracy"],
        versions={},
    )
"""


def use_head(here: House) -> None:
    here.says("-c", CHECK_HEAD, here.name)
    assert here.name in here.posert("inspect own.pose")
    here.posert("verify own.pose --backend onnxruntime")
    people(here)
    run = "people/images --boxes people/annotations.json --backend onnxruntime --precision fp32"
    here.posert(f"run own.pose {run} --output theirs")
    here.posert(f"run narrow.pose {run} --output ours")
    theirs, ours = (points(here.folder / side / "keypoints.json") for side in ("theirs", "ours"))
    assert len(theirs) == len(ours) > 200 and theirs != ours


def use_command(here: House) -> None:
    assert re.search(rf"^ +{here.name} ", here.posert("--help"), re.MULTILINE)
    assert json.loads(here.posert(f"{here.name} narrow.pose --json")) == {
        Path(member.filename).stem: member.file_size
        for member in zipfile.ZipFile(here.folder / "narrow.pose").infolist()
        if member.filename.endswith((".onnx", ".pt"))
    }
    assert "fp32" in here.posert(f"{here.name} narrow.pose")


def use_format(here: House) -> None:
    people(here)
    run = "run narrow.pose people/images --boxes people/annotations.json --backend onnxruntime"
    here.posert(f"{run} --output out/all.{here.name}")
    here.posert(f"{run} --output out/all.json")
    lines = [json.loads(line) for line in (here.folder / f"out/all.{here.name}").read_text().splitlines()]
    frames = json.loads((here.folder / "out/all.json").read_text())["frames"]
    assert [(line["key"], line["people"]) for line in lines] == [(f["file"], f["people"]) for f in frames]


USES: dict[str, Callable[[House], None]] = {
    "arch": use_arch,
    "backend": use_backend,
    "dataset": use_dataset,
    "format": use_format,
    "head": use_head,
    "command": use_command,
}


def test_a_broken_plug_in_is_named_and_breaks_nothing(tmp_path: Path, narrow_bundle: Path) -> None:
    path = tmp_path / "path"
    groups = [found.group for found in KINDS.values() if found.group]
    for number, group in enumerate(groups):
        package = f"broken_{number}"
        install(path, package, group, f"broken{number} = {package}:SPEC", "raise ImportError('no libfoo.so here')\n")
    here = House(ROOT, path, tmp_path)
    doctor = here.python("-m", "posert.runtime.cli", "doctor")
    assert doctor.returncode == 1 and "posert runs here" in doctor.stdout, doctor.stderr
    said = doctor.stdout
    for number, group in enumerate(groups):
        assert f"{group}: broken{number} (broken-{number})" in said
    assert "no libfoo.so here" in said
    people(here)
    assert "hrnet_w32" in here.posert("models")
    here.posert(f"inspect {narrow_bundle}")
    here.posert(f"verify {narrow_bundle} --backend onnxruntime")
    here.posert(f"run {narrow_bundle} people/images --boxes people/annotations.json --backend onnxruntime")


def test_every_registry_has_an_example() -> None:
    assert set(EXAMPLES) == set(KINDS)
