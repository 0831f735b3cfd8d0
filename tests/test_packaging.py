"""What setup.cfg says is what lies here, and the wheel that is built from it holds all that the package needs."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = {"tests", "benchmarks", "build", "dist", "out", "docs", "examples"}
TRAINING = "posert.export.demo.training"  # of the demo's networks, whose weights are shipped
# What the project is made with and for: each has an extra, or comes with every install.
NAMED = ("torch", "onnx", "onnxruntime-gpu", "tensorrt", "pycuda", "numpy", "opencv-python-headless", "polygraphy")


def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def packages(root: Path = ROOT) -> set[str]:
    """Folders with an __init__.py that a wheel holds, as import names."""
    found = {"posert"}
    for path in root.rglob("__init__.py"):
        parts = path.parent.relative_to(root).parts
        if parts and not any(p.startswith(".") for p in parts) and parts[0] not in NOT_SHIPPED:
            found.add(".".join(("posert", *parts)))
    return found - {TRAINING}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> set[str]:
    """Names in the wheel of a copy of the sources: a build leaves folders behind that would end up in the next one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(sources, folder / "posert")
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
    command = [sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--wheel-dir", folder, "--quiet", *isolation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("posert-*.whl")
    with zipfile.ZipFile(file) as archive:
        return set(archive.namelist())


def test_every_package_is_listed() -> None:
    listed = config()["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    assert set(listed) == packages()


def test_the_wheel_holds_every_module_and_nothing_else_that_runs(wheel: set[str]) -> None:
    folders = {"/".join(name.split(".")) for name in packages()}
    modules = {
        f"posert/{p.relative_to(ROOT).as_posix()}"
        for p in ROOT.rglob("*.py")
        if f"posert/{_folder(p)}".rstrip("/") in folders
    }
    written = {n for n in wheel if n.startswith("posert/export/formats/scripts/")}  # into exports, for other programs
    assert {n for n in wheel if n.endswith(".py")} - written == modules


def _folder(path: Path) -> str:
    parent = path.parent.relative_to(ROOT).as_posix()
    return "" if parent == "." else parent


def test_the_wheel_holds_every_data_file(wheel: set[str]) -> None:
    """Whatever is no module in a package's folder is there to be read at run time."""
    data = set()
    for name in packages():
        folder = ROOT.joinpath(*name.split(".")[1:])
        if folder != ROOT:
            data |= {p for p in folder.iterdir() if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert {p.suffix for p in data} >= {".safetensors", ".json", ".html", ".cu", ".cubin", ".ptx"}
    missing = {f"posert/{p.relative_to(ROOT).as_posix()}" for p in data} - wheel
    assert not missing, f"not in [options.package_data]: {sorted(missing)}"
    assert "posert/py.typed" in wheel


def test_the_wheel_leaves_the_rest_out(wheel: set[str]) -> None:
    for name in wheel:
        path = PurePosixPath(name)
        assert path.parts[0] == "posert" or ".dist-info" in path.parts[0], name
        assert path.parts[1] not in NOT_SHIPPED and "conftest" not in path.name and ".pyc" not in name, name
    assert not any("goldens" in name or "Makefile" in name or "/demo/training/" in name for name in wheel)


def test_the_console_script() -> None:
    (line,) = config()["options.entry_points"]["console_scripts"].split("\n")[1:]
    name, target = (part.strip() for part in line.split("="))
    module, function = target.split(":")
    assert name == "posert"
    assert callable(getattr(importlib.import_module(module), function))


def test_the_edge_install_is_numpy_and_opencv() -> None:
    names = {line.split("<")[0].split("=")[0].strip() for line in config()["options"]["install_requires"].split("\n")}
    assert names - {""} == {"numpy", "opencv-python-headless"}


def test_what_is_installed_for_development_is_pinned() -> None:
    """constraints.txt says which versions are tested; `make` installs by it."""
    pinned = {line.split("==")[0].strip().lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    options = config()
    asked, extras, left = set(options["options"]["install_requires"].split()), {"docs"}, ["docs"]
    while left:
        for line in options["options.extras_require"][left.pop()].split():
            if more := re.fullmatch(r"posert\[(.+)\]", line):
                left += set(more[1].split(",")) - extras
                extras |= set(more[1].split(","))
            else:
                asked.add(line)
    assert len(extras) > 3
    assert {re.split(r"[=<>!~]", line)[0].lower() for line in asked} <= pinned


def test_the_packages_of_the_field_have_an_extra() -> None:
    options = config()
    wanted = options["options"]["install_requires"].split()
    for extra, packages in options["options.extras_require"].items():
        if extra != "dev":
            wanted += packages.split()
    assert set(NAMED) <= {re.split(r"[=<>!~]", line)[0] for line in wanted}


def test_an_extra_of_one_package_has_its_name() -> None:
    """But onnxruntime-gpu, whose extra is called as its backend: the package also has other uses; and pyarrow."""
    extras = {name: packages.split() for name, packages in config()["options.extras_require"].items()}
    alone = {name: packages[0] for name, packages in extras.items() if len(packages) == 1}
    assert alone.pop("onnxruntime-cuda") == "onnxruntime-gpu"
    assert alone.pop("parquet") == "pyarrow"
    assert alone.pop("hf") == "huggingface_hub"
    assert alone.pop("sign") == "cryptography"
    assert alone.pop("triton") == "tritonclient[grpc,http]"
    assert alone == {name: name for name in alone}


def test_the_citation_and_the_metadata_agree() -> None:
    metadata, cited = config()["metadata"], (ROOT / "CITATION.cff").read_text()
    lines = dict(re.findall(r"^([\w-]+): (.+)$", cited, re.MULTILINE))
    assert lines["version"] == metadata["version"]
    assert lines["license"] == metadata["license_expression"] == "Apache-2.0"
    assert metadata["author"] in cited
