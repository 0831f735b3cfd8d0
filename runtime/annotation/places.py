"""The folder of results that a path or a URL means."""

from __future__ import annotations

import os
from pathlib import Path

from ..system.storage import is_url
from .output import Output
from .remote import RemoteOutput


def open_output(path: str | os.PathLike[str]) -> Output:
    """The folder of a path or of a URL.

    Raises PosertError: a package for the URL is missing. Raises InputError: no storage has such URLs.
    """
    return RemoteOutput(os.fspath(path)) if is_url(path) else Output(Path(path))
