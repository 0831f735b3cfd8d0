"""What Python's zip reader raises for archives that are damaged, or that it cannot read."""

from __future__ import annotations

import zipfile
import zlib

try:
    from lzma import LZMAError
except ModuleNotFoundError:  # a Python that was built without it; zipfile does without it then, too
    LZMAError = zlib.error  # type: ignore[misc,assignment]

# RuntimeError, and NotImplementedError, which is one: for flags, versions and ways to compress that it does not know.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, LZMAError, OSError, EOFError, ValueError, RuntimeError)
