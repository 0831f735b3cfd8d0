"""Sources and results in object storage: the files are those of a folder, byte by byte."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime.annotation.folder import JOB
from posert.runtime.annotation.remote import RemoteOutput
from posert.runtime.annotation.sources import find
from posert.runtime.cli.main import main
from posert.runtime.errors import InputError
from posert.runtime.results import read
from posert.runtime.system.lock import LockedError
from posert.runtime.system.storage import Storage

pytest.importorskip("fsspec")


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/store"
    return f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"


def files_in(output: str | Path) -> dict[str, bytes]:
    if isinstance(output, Path):
        return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in sorted(output.glob("*/*.parquet"))}
    storage = Storage(output)
    return {name: storage.read(name) for name in storage.sizes() if name.endswith(".parquet")}


def test_results_by_url_are_those_of_a_folder(
    annotate: Any, sources: Path, bucket: str, tmp_path: Path, capsys: Any
) -> None:
    (sources / "images" / "003.png").unlink()
    url = f"{bucket}/results"
    assert annotate(sources, "--shard-images", 2) == 0
    assert annotate(sources, "--shard-images", 2, output=url) == 0
    assert files_in(url) == files_in(tmp_path / "out")
    storage = Storage(url)
    assert storage.names() == {
        *("annotation.json", "plan.jsonl", "journal", "people", "frames", "summary.json", "report.html")
    }
    assert json.loads(storage.read("summary.json"))["output"] == url
    capsys.readouterr()
    assert annotate(sources, "--shard-images", 2, output=url) == 0
    assert " 0 to do" in capsys.readouterr().err
    storage.remove("people/00000001.parquet")
    assert annotate(sources, "--shard-images", 2, output=url) == 0
    assert " 1 to do" in capsys.readouterr().err
    assert files_in(url) == files_in(tmp_path / "out")
    assert annotate(sources, "--shard-images", 3, output=url) == 2
    assert f"{url} holds results of another kind" in capsys.readouterr().err

    here, there = (np.concatenate([b.people.xy for b in read(o)]) for o in (tmp_path / "out", url))
    np.testing.assert_array_equal(here, there)
    for output, name in ((tmp_path / "out", "a"), (url, "b")):
        for ending in (".parquet", ".coco.json"):
            assert main(["annotate", "--output", str(output), "--merge", f"{tmp_path / name}{ending}"]) == 0
    for ending in (".parquet", ".coco.json"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_sources_by_url(annotate: Any, sources: Path, bucket: str, tmp_path: Path) -> None:
    storage, url = Storage(bucket), f"{bucket}/in"
    for path in sources.rglob("*"):
        if path.is_file():
            storage.put(path, f"in/{path.relative_to(sources)}")
    kinds = [(f.kind, f.path, f.names) for f in find([url])]
    assert kinds == [
        ("images", url, [f"images/{i:03d}.png" for i in range(5)]),
        ("tar", f"{url}/000.tar", []),
        ("video", f"{url}/films/walk.mp4", []),
    ]
    assert [f.path for f in find([f"{url}/films/*.mp4", f"{url}/000.tar"])] == [
        f"{url}/films/walk.mp4",
        f"{url}/000.tar",
    ]
    with pytest.raises(InputError, match="no such file or folder"):
        find([f"{url}/none"])
    with pytest.raises(InputError, match="matches no image"):
        find([f"{url}/*.avi"])
    assert annotate(url, output=tmp_path / "remote") == 1  # an image is damaged
    assert annotate(sources) == 1
    there, here = (np.concatenate([b.people.xy for b in read(tmp_path / name)]) for name in ("remote", "out"))
    np.testing.assert_array_equal(there, here)


HOLD = """
import sys, time
from posert.runtime.annotation.remote import RemoteOutput
with RemoteOutput(sys.argv[1]).held(print):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_run_at_a_time_holds_it(bucket: str) -> None:
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLD, bucket], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"in use by process {other.pid}"), RemoteOutput(bucket).held(said.append):
            pass
        other.kill()
        other.wait()
    with RemoteOutput(bucket).held(said.append):
        assert len(said) == 1 and "continues a run that ended without a word" in said[0]
    with RemoteOutput(bucket).held(said.append):
        assert len(said) == 1


def test_who_was_taken_over_stops(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from posert.runtime.annotation import remote

    monkeypatch.setattr(remote, "_BEAT", 0.0)
    monkeypatch.setattr(remote, "_PUSH", 0.0)
    output = RemoteOutput(bucket)
    with pytest.raises(LockedError), output.held(print):
        (output.state / "journal.jsonl").touch()
        output.beat()
        Storage(bucket).write("lock", b'{"host": "elsewhere", "pid": 1}')
        output.beat()
    assert Storage(bucket).read("lock").startswith(b'{"host": "elsewhere"')


def test_a_folder_of_other_things(bucket: str) -> None:
    Storage(bucket).write("thesis.tex", b"")
    with pytest.raises(InputError, match="holds thesis.tex, and no annotation"):
        RemoteOutput(bucket).check()
    assert not RemoteOutput(bucket).holds(JOB)


def test_a_journal_in_parts_is_read_in_order(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from posert.runtime.annotation import remote
    from posert.runtime.annotation.journal import Journal

    monkeypatch.setattr(remote, "_PUSH", 0.0)
    records = [{"shard": i} for i in range(7)]
    for part in (records[:3], records[3:]):
        output = RemoteOutput(bucket)
        with output.held(print), Journal(output.state / "journal.jsonl") as journal:
            for record in part:
                journal.add(record)
                output.beat()
    output = RemoteOutput(bucket)
    with output.held(print), Journal(output.state / "journal.jsonl") as journal:
        assert list(journal.records()) == records
    assert len(Storage(bucket).sizes("journal")) == 7


def test_storage_that_is_away(annotate: Any, sources: Path, capsys: Any) -> None:
    assert annotate(sources, output="nosuch://bucket/out") == 2
    assert "nosuch://bucket/out" in capsys.readouterr().err


def test_what_is_copied_here_is_removed(
    annotate: Any, sources: Path, bucket: str, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    Storage(bucket).put(sources / "films" / "walk.mp4", "walk.mp4")
    assert annotate(f"{bucket}/walk.mp4", output=f"{bucket}/out") == 0
    left = [p.name for p in (tmp_path / "tmp").iterdir() if p.name.startswith("posert")]
    assert left == []
    shutil.rmtree(tmp_path / "tmp")
