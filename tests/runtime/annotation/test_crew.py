"""Workers that crash, do not start, or cannot write: real processes that speak the workers' language."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from posert.runtime.annotation import crew as module
from posert.runtime.annotation.crew import Crew, Event
from posert.runtime.annotation.devices import Device
from posert.runtime.annotation.settings import Settings
from posert.runtime.annotation.shard import Shard
from posert.runtime.errors import PosertError

WORKER = """
import json, os, signal, sys, time
from pathlib import Path
kind, folder = sys.argv[1], Path(sys.argv[2])
def answer(**values):
    print(json.dumps(values), flush=True)
setup = json.loads(sys.stdin.readline())
if kind == "unfit" or (kind == "second unfit" and "CUDA_VISIBLE_DEVICES" in os.environ and sys.argv[3] == "cpu:1"):
    answer(unfit="it has no such graph")
    sys.exit()
if kind == "never starts":
    sys.exit("library not found")
answer(ready=True)
for line in sys.stdin:
    shard = json.loads(line)
    number = shard["number"]
    once = folder / str(number)
    if kind == "crashes" and number == 1 or kind == "crashes once" and number == 1 and not once.exists():
        once.touch()
        sys.stderr.write("the network exploded\\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "full":
        answer(broken="the disk is full")
    elif kind == "fails" and number == 1:
        answer(failed="no video")
    else:
        answer(warning="odd boxes")
        answer(frames=1, people=1)
        answer(done={"frames": 2, "people": 3}, peak_mb=1.0)
"""
DEVICES = [Device("cpu", (0,)), Device("cpu", (1,))]
SHARDS = [Shard(number, "video", f"/{number}.mp4") for number in range(4)]


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Crew]:
    def of(kind: str, devices: list[Device] = DEVICES) -> Crew:
        command = [sys.executable, "-c", WORKER, kind, str(tmp_path)]
        monkeypatch.setattr(module, "_command", lambda device: [*command, str(device)])
        return Crew(devices, Settings("b", "openvino", "fp32"), str(tmp_path), tmp_path)

    return of


def events(crew: Crew) -> list[Event]:
    return [event for event in crew.work(SHARDS) if event is not None]


def numbers(found: list[Event], kind: str) -> list[int]:
    return sorted(event.shard.number for event in found if event.kind == kind and event.shard)


def test_every_shard_is_done_once(crew: Callable[..., Crew]) -> None:
    found = events(crew("good"))
    assert numbers(found, "done") == [0, 1, 2, 3]
    assert {str(e.device) for e in found if e.kind == "ready"} <= {"cpu:0", "cpu:1"}
    assert [e.told for e in found if e.kind == "done"][0] == {"frames": 2, "people": 3, "peak_mb": 1.0}
    assert {e.why for e in found if e.kind == "warning"} == {"odd boxes"}


def test_a_shard_that_fails_costs_no_other(crew: Callable[..., Crew]) -> None:
    found = events(crew("fails"))
    assert numbers(found, "done") == [0, 2, 3]
    assert [(e.shard.number, e.why) for e in found if e.kind == "failed"] == [(1, "no video")]


@pytest.mark.parametrize("devices", [DEVICES, DEVICES[:1]])
def test_the_shard_of_a_dead_worker_goes_to_another(crew: Callable[..., Crew], devices: list[Device]) -> None:
    found = events(crew("crashes once", devices))
    assert numbers(found, "crashed") == [1]
    assert numbers(found, "done") == [0, 1, 2, 3]


@pytest.mark.parametrize("devices", [DEVICES, DEVICES[:1]])
def test_a_shard_that_kills_two_workers_has_failed(crew: Callable[..., Crew], devices: list[Device]) -> None:
    found = events(crew("crashes", devices))
    assert numbers(found, "crashed") == [1]
    assert numbers(found, "done") == [0, 2, 3]
    (failed,) = (e for e in found if e.kind == "failed")
    assert "was ended by SIGKILL: the network exploded; so did another one before" in failed.why


def test_a_device_that_cannot_run_is_left_out(crew: Callable[..., Crew]) -> None:
    found = events(crew("second unfit"))
    assert numbers(found, "done") == [0, 1, 2, 3]
    assert [(str(e.device), e.why) for e in found if e.kind == "lost"] in ([("cpu:1", "it has no such graph")], [])


def test_no_worker_is_left(crew: Callable[..., Crew]) -> None:
    with pytest.raises(PosertError, match="no worker is left: it has no such graph"):
        events(crew("unfit"))
    with pytest.raises(PosertError, match="no worker is left: 5 workers ended one after the other.*library not found"):
        events(crew("never starts"))


def test_a_full_disk_ends_the_work(crew: Callable[..., Crew]) -> None:
    with pytest.raises(PosertError, match="the disk is full"):
        events(crew("full"))


def test_no_worker_outlives_the_generator(crew: Callable[..., Crew]) -> None:
    of = crew("good")
    work = of.work(SHARDS)
    next(work)
    workers = [worker._process._process for worker in of._workers]
    work.close()
    assert all(process.poll() is not None for process in workers)
