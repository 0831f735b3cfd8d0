"""The Dockerfiles: what they name exists, and the steps of the CPU image work in an empty environment."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docker/Dockerfile"
JETSON = ROOT / "docker/jetson/posert"


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    lines = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(line[0], line[1]) for line in lines]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """The instructions of every stage, with those of the stages that it is built from."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, arguments in instructions(text):
        if name == "FROM":
            base, _, stage = arguments.partition(" AS ")
            found[stage] = list(found.get(base, []))
        else:
            found[stage].append((name, arguments))
    return found


def test_the_images_install_extras_that_exist() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    of = stages(DOCKERFILE.read_text())
    assert set(of) == {"wheel", "base", "cpu", "cuda"}
    for stage in ("cpu", "cuda"):
        (install,) = (step for name, step in of[stage] if name == "RUN" and "pip install" in step)
        extras = re.search(r"posert\[(.*?)\]", install)[1].split(",")  # type: ignore[index]
        assert set(extras) <= set(config["options.extras_require"])
        assert ("ENTRYPOINT", '["posert"]') in of[stage] and ("USER", "1000") in of[stage]


def test_the_header_of_the_jetpack_package() -> None:
    """Keys: https://github.com/dusty-nv/jetson-containers/blob/master/docs/packages.md"""
    text = (JETSON / "Dockerfile").read_text()
    header = yaml.safe_load(text.split("#---\n")[1].replace("# ", ""))
    assert set(header) <= {"name", "alias", "build_args", "config", "depends", "group", "notes", "requires", "test"}
    assert header["name"] == JETSON.name and (JETSON / header["test"]).exists()
    first, second = instructions(text)[:2]
    assert (first, second) == (("ARG", "BASE_IMAGE"), ("FROM", "${BASE_IMAGE}"))


@pytest.mark.slow
def test_the_steps_of_the_cpu_image(tmp_path: Path, sources: Path, demo_files: Path) -> None:
    """Its folders lie below `tmp_path`; a new environment stands for the base image."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = {**clean, "PATH": f"{tmp_path / 'venv/bin'}:{clean['PATH']}"}

    def inside(text: str) -> str:
        return re.sub(r"(?<![\w.*])/(src|wheels|cache|work)\b", rf"{tmp_path}/\1", text)

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    of, folder, entry = stages(DOCKERFILE.read_text()), tmp_path, ""
    for name, arguments in [*of["wheel"], *of["cpu"]]:
        if name == "WORKDIR":
            folder = Path(inside(arguments))
            folder.mkdir()
        elif name == "COPY" and arguments == ". .":
            shutil.copytree(sources, folder, dirs_exist_ok=True)
        elif name == "ENV":
            key, _, value = inside(arguments).partition("=")
            environment[key] = value
        elif name == "RUN":
            run("bash", "-c", inside(arguments))
        elif name == "ENTRYPOINT":
            (entry,) = yaml.safe_load(arguments)
        else:  # the wheels lie in a folder of both stages here; a user needs root
            assert (name, arguments) in (
                ("COPY", "--from=wheel /wheels /wheels"),
                ("CMD", '["doctor"]'),
                ("USER", "1000"),
            )
    assert "openvino" in run(entry, "doctor")
    shutil.copy(demo_files / "demo.pose", folder)
    assert "reproduces the results" in run(entry, "verify", "demo.pose")
    assert (tmp_path / "cache").stat().st_mode & 0o1777 == 0o1777
