"""The folder of an export: written beside its place, then renamed; only one that posert wrote is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..runtime.errors import InputError
from ..runtime.system.files import atomic_folder, check_writable, sha256
from ..runtime.system.input_file import read_text_file

MARKER = "posert-export.json"
"""In every such folder: what wrote it, and the sha256 of each file."""


def check_folder(path: Path) -> None:
    """Raise InputError unless a folder can be made there: it is new, or empty, or holds what posert wrote and no more.

    Files that were changed or added since are somebody's work, and are not removed.
    """
    check_writable(path / MARKER)
    if not path.exists() or not any(path.iterdir()):
        return
    marker = path / MARKER
    try:
        written = json.loads(read_text_file(marker))["files"]
        there = {str(file.relative_to(path)): file for file in path.rglob("*") if not file.is_dir()}
        added = [name for name in there if name not in written and name != MARKER]
        changed = [name for name, digest in written.items() if name in there and sha256(there[name]) != digest]
    except FileNotFoundError:
        raise InputError(f"{path} is there, and posert export did not write it: choose another --output") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{marker} cannot be read ({error}): choose another --output, or remove {path}") from error
    if found := sorted({*added, *changed}):
        names = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise InputError(f"{path} holds files that were added or changed since posert wrote it ({names}): move them")


@contextmanager
def new_folder(path: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """An empty folder that becomes `path`, which `check_folder` has passed, when the block ends without an exception.

    Otherwise nothing remains. `about` goes into its marker, beside the hashes of the files.
    """
    with atomic_folder(path, None) as draft:
        yield draft
        names = sorted(file for file in draft.rglob("*") if file.is_file())
        files = {file.relative_to(draft).as_posix(): sha256(file) for file in names}
        (draft / MARKER).write_text(json.dumps({**about, "files": files}, indent=1))
