"""`posert annotate` on real sources: every frame once, runs that resume, and what is wrong named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.media.image_file import UNREADABLE
from posert.runtime.results import read
from posert.runtime.system.machine import processors


def frames_of(output: Path) -> list[tuple[str, str | None, int, int | None, str | None]]:
    rows = [row for file in sorted((output / "frames").iterdir()) for row in pq.read_table(file).to_pylist()]
    return [(Path(r["source"]).name, r["file"], r["frame"], r["people"], r["error"]) for r in rows]


def files_of(output: Path) -> dict[str, bytes]:
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in sorted(output.glob("*/*.parquet"))}


def summary_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return found


def left_over(output: Path) -> list[str]:
    names = [p.name for p in output.rglob("*")]
    return [n for n in names if n.startswith((".", "work-", "lock"))]


def test_every_frame_has_one_result(annotate: Any, sources: Path, narrow_bundle: Path, tmp_path: Path) -> None:
    assert annotate(sources, "--shard-images", 2) == 1  # an image is damaged
    out = tmp_path / "out"
    broken = UNREADABLE
    assert frames_of(out) == [
        *(("in", f"images/{i:03d}.png", i, None if i == 3 else 1, broken if i == 3 else None) for i in range(5)),
        *(("000.tar", f"{i:03d}.png", i, 1, None) for i in range(3)),
        *(("walk.mp4", None, i, 1, None) for i in range(7)),
    ]
    summary = summary_of(out)
    assert summary["shards"] == {"planned": 5, "done": 5, "failed": 0, "left": 0}
    assert (summary["frames"], summary["people"], summary["failed_frames"]) == (15, 14, 1)
    assert summary["failures"] == {broken: 1}
    assert left_over(out) == []

    pose = PoseEstimator(narrow_bundle, threads=1)
    capture = cv2.VideoCapture(str(sources / "films" / "walk.mp4"))
    seen = 0
    for batch in read(out):
        for i in range(len(batch.people)):
            if batch.file[i] is None:
                picture = capture.read()[1]
            else:
                path = sources / str(batch.file[i])
                packed = batch.source[i].endswith(".tar")
                picture = cv2.imread(str(tmp_path / "packed" / str(batch.file[i]) if packed else path))
            expected = pose(picture)
            # The order of sums may differ from session to session, as in the tests of `posert run`.
            np.testing.assert_allclose(batch.people.xy[i], expected.xy[0], atol=2e-3)
            np.testing.assert_allclose(batch.people.score[i], expected.score[0], atol=1e-4)
            seen += 1
    assert seen == 14


def test_a_second_run_does_what_is_missing(
    annotate: Any, sources: Path, tmp_path: Path, capsys: Any, make: Any
) -> None:
    out = tmp_path / "out"
    shutil.rmtree(sources / "films")
    (sources / "images" / "003.png").unlink()
    assert annotate(sources, "--shard-images", 2) == 0
    before = files_of(out)
    assert annotate(sources, "--shard-images", 2) == 0
    assert "0 to do" in capsys.readouterr().err
    assert files_of(out) == before
    make.write_video(sources / "films" / "late.mp4", make.pictures(3))
    (out / "people" / "00000001.parquet").unlink()
    assert annotate(sources / "films", "--shard-images", 2) == 0
    assert "4 shards, 1 of them new" in (err := capsys.readouterr().err) and "2 to do" in err
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"people/00000003.parquet", "frames/00000003.parquet"}


def test_results_of_another_kind_are_not_mixed(annotate: Any, sources: Path, tmp_path: Path, capsys: Any) -> None:
    annotate(sources, "--shard-images", 2)
    before = files_of(tmp_path / "out")
    assert annotate(sources, "--shard-images", 3, "--backend", "torchscript") == 2
    said = capsys.readouterr().err
    assert "images of a shard: 2 there, 3 now" in said
    assert "backend: openvino" in said and "there, torchscript" in said
    assert "precision" not in said.split("must not be mixed")[1]
    assert files_of(tmp_path / "out") == before


def test_failures_are_retried_on_request(annotate: Any, sources: Path, tmp_path: Path, make: Any) -> None:
    out, film = tmp_path / "out", sources / "films" / "walk.mp4"
    good = film.read_bytes()
    film.write_bytes(b"no video")
    shutil.rmtree(sources / "images")
    assert annotate(sources) == 1
    (failed,) = summary_of(out)["failed_shards"]
    assert failed["shard"] == 1 and "neither an image nor a video" in failed["error"]
    assert [row[0] for row in frames_of(out)] == ["000.tar"] * 3
    film.write_bytes(good)
    assert annotate(sources) == 1
    assert summary_of(out)["shards"]["failed"] == 1
    assert annotate(sources, "--retry-failed") == 0
    assert summary_of(out)["shards"] == {"planned": 2, "done": 2, "failed": 0, "left": 0}
    assert len(frames_of(out)) == 10


def test_it_stops_after_too_many_failures(annotate: Any, sources: Path, tmp_path: Path) -> None:
    for path in (sources / "images").iterdir():
        path.write_bytes(b"")
    assert annotate(sources, "--shard-images", 1, "--max-failures", 2) == 1
    summary = summary_of(tmp_path / "out")
    assert "--max-failures 2" in summary["stopped"]
    assert summary["failed_frames"] == 3 and summary["shards"]["left"] > 0
    assert annotate(sources, "--shard-images", 1) == 1
    assert summary_of(tmp_path / "out")["shards"]["left"] == 0


def test_spans_of_a_video_are_the_video(annotate: Any, sources: Path, tmp_path: Path) -> None:
    film = sources / "films" / "walk.mp4"
    assert annotate(film, output=tmp_path / "whole") == 0
    assert annotate(film, "--video-frames", 3, output=tmp_path / "spans") == 0
    assert len(files_of(tmp_path / "spans")) == 6
    assert frames_of(tmp_path / "spans") == frames_of(tmp_path / "whole")
    whole, spans = ([batch.people.xy for batch in read(tmp_path / name)] for name in ("whole", "spans"))
    np.testing.assert_allclose(np.concatenate(spans), np.concatenate(whole), atol=2e-3)


def test_a_video_at_which_opencv_raises_an_error_of_its_own_is_named(annotate: Any, tmp_path: Path) -> None:
    """FFmpeg refuses the file, for want of the stream's format, and OpenCV's own reader then trips over a length."""
    film = tmp_path / "camera.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(4):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = bytearray(film.read_bytes())
    data[data.index(b"strf")] ^= 1
    data[data.index(b"00dc", data.index(b"movi")) + 7] ^= 8
    film.write_bytes(data)
    assert annotate(film) == 1
    (failed,) = summary_of(tmp_path / "out")["failed_shards"]
    assert failed["error"] == "only 0 of 4 frames could be read; the file may be truncated"


def test_boxes_of_each_source_by_a_pattern(annotate: Any, sources: Path, tmp_path: Path, make: Any) -> None:
    make.write_video(sources / "films" / "run.mp4", make.pictures(2))
    for name, boxes in (("walk", {"0": [[0, 0, 50, 90]], "2": [[0, 0, 50, 90], [60, 0, 120, 90]]}), ("run", {"1": []})):
        (tmp_path / f"{name}.json").write_text(json.dumps(boxes))
    assert annotate(sources / "films", "--boxes", tmp_path / "{stem}.json") == 0
    assert [row[3] for row in frames_of(tmp_path / "out")] == [0, 0, 1, 0, 2, 0, 0, 0, 0]
    (tmp_path / "walk.json").unlink()
    assert annotate(sources / "films", "--boxes", tmp_path / "{stem}.json", output=tmp_path / "again") == 1
    (failed,) = summary_of(tmp_path / "again")["failed_shards"]
    assert "walk.json: cannot read the boxes" in failed["error"]


def test_ids_of_a_video_last_and_images_have_none(annotate: Any, sources: Path, tmp_path: Path) -> None:
    boxes = {str(i): [[0, 0, 60, 90], [64, 0, 124, 90]] for i in range(7)}
    boxes |= {f"{i:03d}.png": [[0, 0, 60, 90]] for i in range(5)}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    assert annotate(sources / "films", sources / "images", "--boxes", tmp_path / "boxes.json", "--track") == 1
    tables = [pq.read_table(p).to_pydict() for p in sorted((tmp_path / "out" / "people").iterdir())]
    assert len(set(tables[0]["id"])) == 2 and None not in tables[0]["id"]
    assert set(tables[1]["id"]) == {None}


@pytest.mark.skipif(len(processors()) < 2, reason="needs two processors")
def test_two_workers_give_what_one_gives(annotate: Any, sources: Path, tmp_path: Path) -> None:
    first, second = processors()[:2]
    assert annotate(sources, "--shard-images", 1, output=tmp_path / "one") == 1
    assert annotate(sources, "--shard-images", 1, devices=f"cpu:{first},{second}", output=tmp_path / "two") == 1
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


class TestBadInput:
    def test_no_sources(self, annotate: Any, tmp_path: Path, capsys: Any) -> None:
        assert annotate() == 2
        assert "no sources: name images, folders, videos or tar files" in capsys.readouterr().err
        assert left_over(tmp_path / "out") == []

    def test_a_bundle_that_is_none(self, sources: Path, tmp_path: Path, capsys: Any) -> None:
        from posert.runtime.cli.main import main

        (tmp_path / "x.pose").write_bytes(b"x")
        command = ["annotate", str(sources), "--output", str(tmp_path / "out")]
        assert main([*command, "--bundle", str(tmp_path / "x.pose")]) == 2
        assert "x.pose" in capsys.readouterr().err
        assert main(command) == 2
        assert "add --bundle FILE" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_folder_of_other_things(self, annotate: Any, sources: Path, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("")
        assert annotate(sources) == 2
        assert "holds thesis.tex, and no annotation" in capsys.readouterr().err

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written(self, annotate: Any, sources: Path, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "out").mkdir(mode=0o500)
        assert annotate(sources) == 2
        assert "cannot write" in capsys.readouterr().err

    def test_a_device_that_is_not_there(self, annotate: Any, sources: Path, capsys: Any) -> None:
        assert annotate(sources, devices="cpu:4096") == 2
        assert "not 4096" in capsys.readouterr().err

    def test_workers_of_a_cluster_that_is_not_there(self, annotate: Any, sources: Path, capsys: Any) -> None:
        assert annotate(sources, "--workers", 2) == 2
        assert "add --ray ADDRESS" in capsys.readouterr().err
        assert annotate(sources, "--ray", "local") == 2  # the fixture names devices
        assert "with --ray say --worker-cpus or --worker-gpus" in capsys.readouterr().err

    def test_ids_and_spans(self, annotate: Any, sources: Path, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "b.json").write_text("{}")
        assert annotate(sources, "--boxes", tmp_path / "b.json", "--track", "--video-frames", 5) == 2
        assert "cannot be cut into spans" in capsys.readouterr().err

    def test_sources_that_are_none(self, annotate: Any, sources: Path, tmp_path: Path) -> None:
        (sources / "films" / "empty.mp4").write_bytes(b"")
        (sources / "films" / "text.avi").write_text("hello")
        (sources / "bad.tar").write_text("hello")
        (sources / "films" / "loose.mp4").symlink_to(tmp_path / "none")
        assert annotate(sources / "films", sources / "bad.tar") == 1
        why = {
            Path(f["source"].split("(")[1].rstrip(")")).name: f["error"]
            for f in summary_of(tmp_path / "out")["failed_shards"]
        }
        assert why["empty.mp4"] == "the file is empty"
        assert "neither an image nor a video" in why["text.avi"]
        assert "not a tar file" in why["bad.tar"]
        assert why["loose.mp4"] == "No such file or directory"
        assert len(frames_of(tmp_path / "out")) == 7

    def test_a_damaged_plan(self, annotate: Any, sources: Path, tmp_path: Path, capsys: Any) -> None:
        annotate(sources)
        (tmp_path / "out" / "plan.jsonl").write_text("{")
        assert annotate(sources) == 2
        assert "not a plan" in capsys.readouterr().err
