"""Published weights from a server of the test: whole and checked, or an error that says what else can be done."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from posert.export.catalog import Row, find
from posert.export.weights import download
from posert.export.weights.download import fetch
from posert.runtime.errors import CheckpointError

DATA = bytes(i * i % 251 for i in range(300_000))
DIGEST = hashlib.sha256(DATA).hexdigest()[:8]


class Publisher(http.server.BaseHTTPRequestHandler):
    """Serves DATA; /broken/ breaks the connection after half of it; /missing/ has nothing."""

    def do_GET(self) -> None:
        folder = self.path.split("/")[1]
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if folder == "missing":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[: len(DATA) // 2] if folder == "broken" else DATA)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def publisher() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSERT_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "checkpoints"


def published(port: int, folder: str = "full", digest: str | None = DIGEST) -> Row:
    file = f"net-{digest}_20200708.pth" if digest else "checkpoint.pt"
    url = f"http://127.0.0.1:{port}/{folder}/{file}"
    return dataclasses.replace(find("hrnet_w32"), url=url, file=file)


def test_fetch_keeps_the_file_and_reports_progress(publisher, cache: Path):
    seen: list[tuple[int, int | None]] = []
    row = published(publisher.server_port)
    path = fetch(row, lambda done, total: seen.append((done, total)))
    assert path == cache / row.file and path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA)) and [p.name for p in cache.iterdir()] == [row.file]
    assert fetch(row) == path and len(publisher.asked) == 1


@pytest.mark.parametrize("digest", [DIGEST, None])
def test_half_a_file_is_never_kept(digest: str | None, publisher, cache: Path):
    message = failure(published(publisher.server_port, "broken", digest))
    assert f"the connection broke after {len(DATA) // 2} of {len(DATA)} bytes" in message
    assert not list(cache.iterdir())


def test_a_file_without_a_digest_has_the_name_of_its_row(publisher, cache: Path):
    row = published(publisher.server_port, digest=None)
    assert fetch(row) == cache / f"{row.id}.pt" and (cache / f"{row.id}.pt").read_bytes() == DATA


def failure(row: Row) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch(row)
    message = str(caught.value)
    assert "--weights FILE" in message and "--weights demo" in message and "--weights random" in message
    assert row.url is None or row.url in message
    return message


def test_fetch_refuses_and_deletes_a_file_with_another_digest(publisher, cache: Path):
    message = failure(published(publisher.server_port, digest="0badf00d"))
    assert DIGEST in message and "0badf00d" in message and not list(cache.iterdir())


def test_fetch_names_the_reason_and_the_ways_out(publisher, monkeypatch: pytest.MonkeyPatch):
    assert "404" in failure(published(publisher.server_port, "missing"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert "refused" in failure(published(free.getsockname()[1]))
    row = find("pose_resnet_50")
    assert "pose_coco/pose_resnet_50_256x192.pth" in failure(row)
    assert "none were published" in failure(find("pose_hourglass_2"))

    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "timed out" in failure(published(silent.getsockname()[1]))
