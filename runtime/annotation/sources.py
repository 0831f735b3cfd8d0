"""What is to be annotated: images, videos and tar files, found in files, folders, patterns and lists."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..media.sources import IMAGES
from ..system.input_file import check_text_file
from ..system.storage import Storage, is_url

VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".3gp", ".ogv"),
)
_LONGEST = 1 << 16  # of a line of a list; no system has longer names
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
Kind = Literal["images", "video", "tar"]


@dataclass
class Found:
    """A source.

    Attributes:
        kind: "images", "video" or "tar": a tar file of images, such as WebDataset's.
        path: absolute, or a URL; of images the folder that their names are relative to.
        names: of images, with `/` between folders; empty for a video or a tar file.
    """

    kind: Kind
    path: str
    names: list[str] = field(default_factory=list)


def find(specs: Sequence[str], listed: str | None = None) -> list[Found]:
    """Sources in the order in which they are named, each file once.

    Args:
        specs: files, folders (with all below them, sorted by name) and patterns (`*`, `?`, `[...]`, `**`), or URLs of
            those. A file of no known ending is taken for a video.
        listed: a file with such names, one a line; "-" reads standard input.

    Raises InputError: a name is no file and no folder, a pattern or a folder holds nothing of the kind, or there are no
        sources at all.
    """
    found: list[Found] = []
    seen: set[str] = set()
    for spec in specs:
        files = list(_expand(spec))
        if not files:
            raise InputError(f"{spec}: holds no image, video or tar file; searched below it for {_endings()}")
        _add(files, found, seen)
    if listed is not None:
        for number, line in enumerate(_lines(listed), 1):
            try:
                _add(_expand(line, sure=True), found, seen)
            except InputError as error:
                raise InputError(f"{'standard input' if listed == '-' else listed}: line {number}: {error}") from error
    return found


def kind_of(path: str) -> Kind | None:
    """What a file is by its ending; None if the ending is not known."""
    name = path.lower()
    if name.endswith(IMAGES):
        return "images"
    return "video" if name.endswith(VIDEOS) else "tar" if name.endswith(TARS) else None


def _expand(spec: str, sure: bool = False) -> Iterator[tuple[Kind, str, str]]:
    """Kind, path and name of each file that one argument stands for; `sure`: known endings are not looked for."""
    kind = kind_of(spec)
    if is_url(spec):
        yield from _at_url(spec, sure)
    elif sure and kind is not None and not any(c in spec for c in "*?["):
        yield _one(kind, spec)
    elif os.path.isdir(spec):
        yield from _below(spec)
    elif os.path.isfile(spec):
        yield _one(kind or "video", spec)
    elif any(c in spec for c in "*?["):
        matches = sorted(glob.glob(spec, recursive=True))
        if not matches:
            raise InputError(f"{spec}: matches nothing")
        for match in matches:
            if os.path.isdir(match):
                yield from _below(match)
            elif (kind := kind_of(match)) is not None:
                yield _one(kind, match)
    else:
        raise InputError(f"{spec}: no such file or folder")


def _at_url(url: str, sure: bool) -> Iterator[tuple[Kind, str, str]]:
    """As `_expand`, in object storage."""
    kind = kind_of(url)
    folder, _, name = url.rpartition("/")
    if any(c in url for c in "*?["):
        folder = re.split(r"/[^/]*[*?\[]", url)[0]
        storage = Storage(folder)
        names = [name for name in storage.matching(url[len(folder) + 1 :]) if kind_of(name)]
        if not names:
            raise InputError(f"{url}: matches no image, video or tar file")
        yield from _named(folder, names)
    elif (sure and kind) or Storage(folder).exists(name):
        yield ("images", folder, name) if kind == "images" else (kind or "video", url, "")
    else:
        names = [n for n in Storage(url).sizes() if not any(part.startswith(".") for part in n.split("/"))]
        if not names:
            raise InputError(f"{url}: no such file or folder")
        yield from _named(url.rstrip("/"), names)


def _named(folder: str, names: Iterable[str]) -> Iterator[tuple[Kind, str, str]]:
    """Files below the URL of a folder: images, then videos and tar files."""
    kinds = [(kind, name) for name in names if (kind := kind_of(name)) is not None]
    yield from (("images", folder, name) for kind, name in kinds if kind == "images")
    yield from ((kind, f"{folder}/{name}", "") for kind, name in kinds if kind != "images")


def _one(kind: Kind, path: str) -> tuple[Kind, str, str]:
    folder, name = os.path.split(os.path.abspath(path))
    return (kind, folder, name) if kind == "images" else (kind, os.path.join(folder, name), "")


def _below(folder: str) -> Iterator[tuple[Kind, str, str]]:
    """The images of a folder by path, then its videos and tar files; without hidden ones."""
    root = os.path.abspath(folder)
    images, others = [], []
    for at, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            kind = None if name.startswith(".") else kind_of(name)
            if kind == "images":
                images.append(os.path.relpath(os.path.join(at, name), root).replace(os.sep, "/"))
            elif kind is not None:
                others.append((os.path.join(at, name), kind))
    yield from (("images", root, name) for name in sorted(images))
    yield from ((kind, path, "") for path, kind in sorted(others))


def _add(files: Iterable[tuple[Kind, str, str]], found: list[Found], seen: set[str]) -> None:
    """Append what is new; images of one folder that follow each other are one source."""
    for kind, path, name in files:
        whole = f"{path}/{name}" if name else path
        if whole in seen:
            continue
        seen.add(whole)
        if kind == "images" and found and found[-1].kind == "images" and found[-1].path == path:
            found[-1].names.append(name)
        else:
            found.append(Found(kind, path, [name] if name else []))


def _lines(listed: str) -> Iterator[str]:
    try:
        if listed != "-" and Path(listed).is_file():
            check_text_file(listed)
        with contextlib.nullcontext(sys.stdin) if listed == "-" else Path(listed).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if len(line) > _LONGEST:
                    raise InputError(f"{listed}: line {number} has {len(line)} characters, as no name of a file has")
                if (text := line.strip("\r\n")) and not text.isspace():
                    yield text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{listed}: cannot read the list of sources ({error})") from error


def _endings() -> str:
    return " ".join((*IMAGES, *VIDEOS, *TARS))
