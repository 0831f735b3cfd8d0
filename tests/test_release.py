"""`make release`: what it refuses, and the lines that it prints. The workflows say what they must."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
VERSION = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)[1]  # type: ignore[index]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what the checks read, ready to be released."""
    for name in ("setup.cfg", "CITATION.cff", "CHANGELOG.md", ".ci/release", ".gitignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    log = tmp_path / "CHANGELOG.md"
    log.write_text(re.sub(r"^## .*$", f"## {VERSION} (2026-12-01)", log.read_text(), count=1, flags=re.MULTILINE))
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "tag.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")


def release(folder: Path, what: str) -> tuple[int, str]:
    command = [sys.executable, ".ci/release", what]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_lines(checkout: Path) -> None:
    assert release(checkout, "check") == (0, "")
    assert release(checkout, "lines")[0] == 1  # nothing is built
    (checkout / "dist").mkdir()
    for name in (f"posert-{VERSION}-py3-none-any.whl", f"posert-{VERSION}.tar.gz"):
        (checkout / "dist" / name).write_text("")
    status, said = release(checkout, "lines")
    assert status == 0
    first, second = said.splitlines()[1:]
    git(checkout, *(word.strip('"') for word in re.findall(r'"[^"]+"|\S+', first)[1:]))  # makes the tag
    assert second == f"git push origin v{VERSION}"
    assert release(checkout, "check") == (0, "")  # as the workflow does, which has the tag
    (checkout / "dist/posert-9.9.9.tar.gz").write_text("")
    assert "dist/ holds" in release(checkout, "lines")[1]


def test_faults(checkout: Path) -> None:
    def fault() -> str:
        status, said = release(checkout, "check")
        assert status == 1
        return said

    git(checkout, "tag", f"v{VERSION}")
    edit(checkout / "CHANGELOG.md", f"## {VERSION} (2026-12-01)", f"## {VERSION} (not released)")
    assert "tree is not clean: commit or remove CHANGELOG.md" in fault()
    commit(checkout)
    said = fault()
    assert f"first entry is '{VERSION} (not released)'" in said and "is of another commit" in said
    edit(checkout / "setup.cfg", f"version = {VERSION}", "version = 9.9")
    said = fault()
    assert "version '9.9' is none that an index takes" in said and f"CITATION.cff: version {VERSION}" in said


def workflow(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())
    return found


def test_the_workflows() -> None:
    """Nothing is published that was not checked; only the job that publishes may write."""
    check, jobs = workflow("check.yml"), workflow("release.yml")["jobs"]
    assert any(step.get("run", "").startswith(".ci/run") for step in check["jobs"]["ci"]["steps"])
    assert jobs["check"]["with"] == {"part": "all"}
    assert set(jobs["publish"]["needs"]) == {"check", "build"} == set(jobs) - {"publish"}
    for name in ("check.yml", "release.yml"):
        assert workflow(name)["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for steps in (check["jobs"]["ci"]["steps"], jobs["build"]["steps"]):
        for step in steps:
            if step.get("run", "").startswith("make "):
                assert step["run"].split()[1] in targets
