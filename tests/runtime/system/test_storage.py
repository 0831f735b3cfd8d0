"""Object storage: in memory, in a folder by URL and, where a server can be started, S3."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from posert.runtime.errors import InputError, PosertError
from posert.runtime.system.storage import Storage, is_url

pytest.importorskip("fsspec")


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}/folder"
    elif request.param == "file":
        yield f"file://{tmp_path}/folder"
    else:
        yield f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}"


def test_what_is_written_is_read(url: str, tmp_path: Path) -> None:
    storage = Storage(url)
    assert storage.names() == set() and storage.sizes() == {} and not storage.exists("a")
    storage.write("a", b"one")
    storage.write("sub/b", b"")
    (tmp_path / "c").write_bytes(b"x" * 100_000)
    storage.put(tmp_path / "c", "sub/c")
    assert storage.names() == {"a", "sub"}
    assert storage.sizes() == {"a": 3, "sub/b": 0, "sub/c": 100_000}
    assert storage.sizes("sub") == {"b": 0, "c": 100_000}
    assert storage.matching("sub/*") == ["sub/b", "sub/c"]
    storage.write("a", b"again")
    assert storage.read("a") == b"again"
    storage.get("sub/c", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"x" * 100_000
    with storage.opened("a") as file:
        file.seek(2)
        assert file.read() == b"ain"
    age = storage.age("a")
    assert age is not None and -5 < age < 60  # the clocks of a server and of this machine differ a little
    storage.remove("a")
    storage.remove("a")
    assert storage.sizes() == {"sub/b": 0, "sub/c": 100_000}


def test_one_of_two_creates(url: str) -> None:
    storage = Storage(url)
    assert storage.create("lock", b"me")
    assert not storage.create("lock", b"you")
    assert storage.read("lock") == b"me"


def test_what_cannot_be_read_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot read {url}/none"):
        Storage(url).read("none")
    with pytest.raises(InputError, match="cannot read"), Storage(url).opened("none"):
        pass


def test_urls() -> None:
    assert is_url("s3://bucket/a") and is_url("memory://a")
    assert not is_url("a/b") and not is_url(Path("/a:/b"))
    with pytest.raises((InputError, PosertError), match="nosuch://x"):
        Storage("nosuch://x")
