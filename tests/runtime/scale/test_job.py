"""`posert annotate --ray` on a real cluster of this machine: the files of one machine, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posert.runtime.annotation import Settings, choose, find
from posert.runtime.annotation import annotate as annotate_here
from posert.runtime.annotation.devices import parse
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import InputError, PosertError
from posert.runtime.scale import Cluster, annotate_sources, choose_there
from posert.runtime.system.machine import processors
from posert.runtime.system.storage import Storage


def files_of(output: Path) -> dict[str, bytes]:
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in sorted(output.glob("*/*.parquet"))}


@pytest.fixture
def settings(narrow_bundle: Path) -> Settings:
    with Bundle(narrow_bundle) as bundle:
        selected, _ = choose(bundle, "auto", "auto", f"cpu:{processors()[0]}")
    return Settings(str(narrow_bundle), selected.backend, selected.precision, images=2)


@pytest.fixture
def expected(settings: Settings, sources: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a run without Ray."""
    annotate_here(find([str(sources)]), settings, parse(f"cpu:{processors()[0]}"), tmp_path / "here")
    return files_of(tmp_path / "here")


def test_a_cluster_gives_what_one_machine_gives(
    cluster: Cluster, settings: Settings, sources: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    assert choose_there(cluster, settings.bundle).backend == settings.backend
    found = find([str(sources)])
    summary = annotate_sources(found, settings, cluster, tmp_path / "there")
    assert summary["shards"] == {"planned": 6, "done": 6, "failed": 0, "left": 0}
    assert (summary["frames"], summary["failed_frames"]) == (20, 1)
    assert files_of(tmp_path / "there") == expected
    assert len(summary["run"]["workers"]) == 2
    # the same folder, without Ray
    said: list[str] = []
    annotate_here(found, settings, parse(f"cpu:{processors()[0]}"), tmp_path / "there", say=said.append)
    assert "0 to do" in said[0]
    assert not [p for p in (tmp_path / "there").iterdir() if p.name.startswith((".", "work-", "lock"))]


def test_results_in_object_storage(
    cluster: Cluster, settings: Settings, sources: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/store"
    annotate_sources(find([str(sources)]), settings, cluster, url)
    storage = Storage(url)
    assert {name: storage.read(name) for name in storage.sizes() if name.endswith(".parquet")} == expected


def test_a_killed_worker_is_replaced(
    cluster: Cluster, settings: Settings, sources: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    said: list[str] = []
    killed: list[int] = []

    def kill(line: str) -> None:
        if not killed and not line.startswith("0 of"):
            killed.extend(_workers()[:1])
            os.kill(killed[0], signal.SIGKILL)

    annotate_sources(find([str(sources)]), settings, cluster, tmp_path / "there", say=said.append, show=kill)
    assert killed
    assert any("the worker ended" in line for line in said)
    assert files_of(tmp_path / "there") == expected


DRIVER = """
import sys
from posert.runtime.cli.main import main
sys.exit(main())
"""


def test_a_killed_driver_is_resumed(
    settings: Settings, sources: Path, expected: dict[str, bytes], tmp_path: Path, cluster: Cluster
) -> None:
    import ray

    output = tmp_path / "there"
    address = ray.get_runtime_context().gcs_address
    command = [
        sys.executable,
        "-c",
        DRIVER,
        "annotate",
        str(sources),
        "--bundle",
        settings.bundle,
        "--shard-images",
        "2",
    ]
    command += ["--output", str(output), "--ray", address, "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        while driver.poll() is None and not list(output.glob("people/*.parquet")):
            time.sleep(0.02)
        driver.kill()
    done = len(files_of(output))
    assert 0 < done < len(expected)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1, again.stderr  # an image is damaged
    assert "continues a run that ended without a word" in again.stderr
    assert files_of(output) == expected
    assert not [p for p in output.iterdir() if p.name.startswith((".", "work-", "lock"))]


def test_workers_that_cannot_run(cluster: Cluster, settings: Settings, sources: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "det.onnx").write_bytes(b"x")
    bad = replace(settings, detector=str(tmp_path / "det.onnx"))
    with pytest.raises(PosertError, match="(?s)no worker is left: .*det.onnx"):
        annotate_sources(find([str(sources)]), bad, cluster, tmp_path / "there")
    with pytest.raises(InputError, match="none.pose"):
        choose_there(cluster, str(tmp_path / "none.pose"))


def test_a_worker_with_other_software_does_not_work(cluster: Cluster, settings: Settings, tmp_path: Path) -> None:
    from posert.runtime.annotation.shard import Shard
    from posert.runtime.scale.cluster import Parcel
    from posert.runtime.scale.crew import RayCrew

    software = settings.software() | {"decoder": "OpenCV 3.0.0"}
    crew = RayCrew(cluster, Parcel.of(settings), software, str(tmp_path), tmp_path)
    with pytest.raises(PosertError, match="other software than the other workers have: decoder OpenCV .* here"):
        list(crew.work([Shard(0, "video", "/none.mp4")]))


def test_a_full_disk_ends_the_run(cluster: Cluster, settings: Settings, sources: Path, tmp_path: Path) -> None:
    output = tmp_path / "there"
    (output / "people").mkdir(parents=True)
    (output / "people" / "00000000.parquet").mkdir()  # a file cannot be renamed to that, as on a disk that is full
    with pytest.raises(PosertError, match="shard 0 .*cannot write the results"):
        annotate_sources(find([str(sources)]), settings, cluster, output)


def test_what_a_cluster_can_be() -> None:
    with pytest.raises(InputError, match="expected at least one worker"):
        Cluster(cpus=0)
    with pytest.raises(InputError, match="expected at least one worker"):
        Cluster(workers=0)


def _workers() -> list[int]:
    """Processes of Ray that run one of our actors."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if status.read_bytes().startswith(b"ray::Worker"):
                found.append(int(status.parent.name))
        except OSError:
            continue
    return found


MACHINES = """
import json, sys
from pathlib import Path
from ray.cluster_utils import Cluster as Machines
from posert.runtime.annotation import Settings, find
from posert.runtime.scale import Cluster, annotate_sources

machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
lost = [machines.add_node(num_cpus=1)]

def show(line):
    if lost and not line.startswith("0 of"):
        machines.add_node(num_cpus=1)  # another one, as an autoscaler would start
        machines.remove_node(lost.pop(), allow_graceful=False)

settings = Settings(**json.loads(sys.argv[1]))
cluster = Cluster(machines.address, workers=1)
summary = annotate_sources(find([sys.argv[2]]), settings, cluster, sys.argv[3], say=print, show=show)
print(json.dumps(summary["shards"]), flush=True)
machines.shutdown()
"""


def test_a_machine_that_is_taken_away_costs_nothing(
    settings: Settings, sources: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    import json

    output = tmp_path / "there"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", MACHINES, json.dumps(settings.to_json()), str(sources), str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"failed": 0' in done.stdout
    assert "its machine is gone" in done.stdout or "the worker ended" in done.stdout
    assert files_of(output) == expected
