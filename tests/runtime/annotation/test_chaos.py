"""Kills, full disks and sources that are away: afterwards the folder is that of an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from posert.benchmarks.annotate_chaos import chaos, check
from posert.runtime.system.machine import processors

pytestmark = [
    pytest.mark.slow,  # a minute; test_annotate.py and test_crew.py have each disturbance by itself
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.mark.parametrize("seed", [0])
def test_disturbed_runs_give_what_an_undisturbed_one_gives(
    sources: Path, narrow_bundle: Path, tmp_path: Path, make: Any, seed: int
) -> None:
    for i in range(6):
        make.write_video(sources / "films" / f"{i}.mp4", make.pictures(8, i))
    make.write_images(sources / "images" / "more", make.pictures(40))
    (sources / "films" / "none.mp4").write_bytes(b"no video")
    devices = ",".join(map(str, processors()[:2]))
    options = ("--bundle", narrow_bundle, "--devices", f"cpu:{devices}", "--shard-images", 4, "--video-frames", 5)
    arguments = [str(argument) for argument in (sources, *options)]
    command = [sys.executable, "-m", "posert.runtime.cli", "annotate", *arguments, "--output", str(tmp_path / "quiet")]
    quiet = subprocess.run(command, capture_output=True, text=True)
    assert quiet.returncode == 1, quiet.stderr  # two sources are damaged
    done = chaos(arguments, tmp_path / "disturbed", 10, seed, away=sources, longest=3.0)
    assert sum(done.counts.values()) >= 10
    files = check(tmp_path / "disturbed", tmp_path / "quiet")
    assert files == 2 * (12 + 1 + 6 * 2 + 2)  # of images, the tar file, six videos, and one that was there
    for name in ("quiet", "disturbed"):
        merge = ["annotate", "--output", str(tmp_path / name), "--merge", str(tmp_path / f"{name}.parquet")]
        assert subprocess.run([sys.executable, "-m", "posert.runtime.cli", *merge]).returncode == 1
    assert (tmp_path / "quiet.parquet").read_bytes() == (tmp_path / "disturbed.parquet").read_bytes()
