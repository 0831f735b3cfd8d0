"""Download one file over HTTP: resumed where it broke off, checked against its digest, put in place in one step."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from ...runtime.errors import PosertError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that there will be, or None where the server does not say."""

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
_BLOCK = 1 << 20


class DownloadError(PosertError):
    """The reason why a file could not be had, in a few words."""


def download(url: str, path: Path, sha256_prefix: str | None, progress: Progress | None = None) -> Path:
    """Fetch `url` to `path` through `path`.part, which is kept when the connection breaks and used the next time.

    A server must answer within CONNECT_SECONDS and never be silent for READ_SECONDS. Without a digest a broken
    download starts anew, because nothing could tell whether two halves belong together.

    Raises:
        DownloadError: no answer, an HTTP error, a connection that broke off, another digest, or a full disk.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not sha256_prefix:
            part.unlink(missing_ok=True)
        _receive(url, part, progress)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"no connection: {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise DownloadError(f"{type(error).__name__}: {error}") from error
    if sha256_prefix:
        seen = sha256(part)
        if not seen.startswith(sha256_prefix):
            part.unlink()
            raise DownloadError(
                f"the file's sha256 begins with {seen[:8]} and should begin with {sha256_prefix}; it was deleted"
            )
    os.replace(part, path)
    return path


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Write what is missing of `url` to the end of `part`."""
    there = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, there)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not there:
            raise
        # Range not satisfiable: the part is as long as the file or longer. Whether it is the file, only a new
        # download tells.
        part.unlink()
        there, response = 0, _open(url, 0)
    with response:
        # A server that knows no ranges answers 200 with the whole file.
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        if not resumed:
            there = 0
        length = response.headers.get("Content-Length")
        total = there + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                there += len(block)
                if progress:
                    progress(there, total)
    if total is not None and there != total:
        raise DownloadError(f"the connection broke off after {there} of {total} bytes; run the command again to resume")


def _open(url: str, start: int) -> HTTPResponse:
    """The server's answer, or URLError after CONNECT_SECONDS.

    The name look-up obeys no socket timeout and can take half a minute on a machine with no network, so the request
    runs in a thread that is left behind when it is late.
    """
    headers = {"User-Agent": "posert"} | ({"Range": f"bytes={start}-"} if start else {})
    answer: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            # An opener of its own: the module's shared one keeps for ever the proxies of its first use.
            opener = urllib.request.build_opener()
            answer.put(opener.open(urllib.request.Request(url, headers=headers), timeout=READ_SECONDS))
        except Exception as error:  # raised again by the caller
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        result = answer.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise urllib.error.URLError(f"no answer within {CONNECT_SECONDS:.0f} s") from None
    if isinstance(result, Exception):
        raise result
    return result
