"""The published weights of a model: from the cache, or downloaded and checked against their digest."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from ...runtime.errors import CheckpointError
from ...runtime.system.files import atomic_write, cache_folder
from ..catalog import Row

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have come and the bytes that will come, or None where the server does not say."""

TIMEOUT = 30.0  # seconds without an answer or without a byte
_BLOCK = 1 << 20
_ALTERNATIVES = (
    "Alternatives: `--weights FILE` with a copy that you have, `--weights demo` for the small network that comes with "
    "posert, `--weights random` to try the tools without trained weights"
)


def fetch(row: Row, progress: Progress | None = None) -> Path:
    """The published weights of a catalog row (`--weights auto`).

    They are kept in `checkpoints` in `posert.runtime.system.files.cache_folder`.

    Raises:
        CheckpointError: no address is known, or the download failed; the message says what else can be done.
        InputError: the file cannot be written.
    """
    if row.url is None:
        where = f"{row.file} of {row.source}" if row.file else f"none were published by {row.source}"
        raise CheckpointError(f"{row.id}: its weights have no direct address ({where}). {_ALTERNATIVES}")
    name = str(row.file) if row.sha256_prefix else row.id + Path(str(row.file)).suffix
    path = cache_folder() / "checkpoints" / name
    if path.exists():
        return path
    try:
        _download(row.url, path, row.sha256_prefix or "", progress)
    except urllib.error.HTTPError as error:
        reason = f"the server answers {error.code} {error.reason}"
    except urllib.error.URLError as error:
        reason = f"no connection: {error.reason}"
    except (OSError, HTTPException, ValueError) as error:  # a connection that breaks, and what `_download` refuses
        reason = str(error) or type(error).__name__
    else:
        return path
    raise CheckpointError(f"cannot download {row.url}: {reason}. {_ALTERNATIVES}")


def _download(url: str, path: Path, sha256_prefix: str, progress: Progress | None) -> None:
    """Not torch.hub's: that waits for ever for a silent server, and takes a broken connection for the end of a file."""
    request = urllib.request.Request(url, headers={"User-Agent": "posert"})
    digest, done = hashlib.sha256(), 0
    # An opener of its own: the module's shared one keeps the proxies of its first use.
    with urllib.request.build_opener().open(request, timeout=TIMEOUT) as response, atomic_write(path) as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        while block := response.read(_BLOCK):
            file.write(block)
            digest.update(block)
            done += len(block)
            if progress:
                progress(done, total)
        if total is not None and done != total:
            raise ValueError(f"the connection broke after {done} of {total} bytes")
        if not digest.hexdigest().startswith(sha256_prefix):
            raise ValueError(f"its sha256 begins with {digest.hexdigest()[:8]}, expected {sha256_prefix}")
