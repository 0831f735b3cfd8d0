"""Object storage and other file systems by URL, such as s3://bucket/folder, through fsspec."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, PosertError
from .files import TemporaryFolder


class Storage:
    """A folder by URL. What is written is complete or absent: one object, or a file that is renamed.

    Args:
        url: such as s3://bucket/folder, gs://bucket/folder, memory://folder.

    Raises:
        PosertError: a package is missing; the message names it.
        InputError: no storage has such URLs.
    """

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise PosertError(f'{url}: URLs need the package fsspec: pip install "posert[fsspec]"') from error
        self.url = url.rstrip("/")
        with self._errors("open", ""):
            self._fs, self._root = url_to_fs(self.url)
        self._fs.use_listings_cache = False
        # a local file must be written beside and renamed; an object appears when all of it was sent
        self._rename = "file" in ([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol)

    def exists(self, name: str) -> bool:
        """Whether there is such a file. Raises InputError: the storage cannot be reached."""
        with self._errors("read", name):
            return bool(self._fs.isfile(self._path(name)))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The bytes of every file below a folder, by its name there. Raises InputError: as `exists`."""
        top = self._path(folder)
        with self._errors("list", folder):
            self._fs.invalidate_cache()
            found = self._fs.find(top, detail=True)
        strip = len(self._fs._strip_protocol(top).rstrip("/")) + 1
        return {path[strip:]: int(info["size"]) for path, info in sorted(found.items())}

    def names(self) -> set[str]:
        """What lies in the folder itself: files and folders; empty if there is none. Raises InputError: as `exists`."""
        with self._errors("list", ""), contextlib.suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            return {path.rstrip("/").rpartition("/")[2] for path in self._fs.ls(self._root, detail=False)}
        return set()

    def matching(self, pattern: str) -> list[str]:
        """Names below the folder that match a pattern of `*`, `?`, `[...]` and `**`, sorted. Raises InputError."""
        with self._errors("list", pattern):
            found = self._fs.glob(self._path(pattern))
        strip = len(self._fs._strip_protocol(self._root).rstrip("/")) + 1
        return sorted(path[strip:] for path in found)

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises InputError: it cannot be read."""
        with self._errors("read", name):
            return bytes(self._fs.cat_file(self._path(name)))

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """A file for reading at any place. Raises InputError: it cannot be opened."""
        with self._errors("read", name):
            file = self._fs.open(self._path(name), "rb")
        with file:
            yield file

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it. Raises InputError: it cannot be written."""
        self._written(name, lambda path: self._fs.pipe_file(path, data))

    def put(self, file: Path, name: str) -> None:
        """Copy a file of this machine. Raises InputError: it cannot be written."""
        self._written(name, lambda path: self._fs.put_file(str(file), path))

    def get(self, name: str, file: Path) -> None:
        """Copy a file to this machine. Raises InputError: it cannot be read, or written here."""
        with self._errors("read", name):
            self._fs.get_file(self._path(name), str(file))

    def create(self, name: str, data: bytes) -> bool:
        """Write a file if there is none; False if there is. Of two writers at a time one gets True, where the storage
        can tell (S3, Google Cloud Storage and folders can). Raises InputError: it cannot be written.
        """
        path = self._path(name)
        with self._errors("write", name):
            self._make_folder(path)
            try:
                if self._rename:
                    with open(path, "xb") as file:
                        file.write(data)
                else:
                    self._fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
        return True

    def age(self, name: str) -> float | None:
        """Seconds since a file was written, by the storage's clock and ours; None if it does not tell."""
        import datetime

        with self._errors("read", name):
            try:
                written = self._fs.modified(self._path(name))
            except NotImplementedError:
                return None
        if written.tzinfo is None:
            written = written.replace(tzinfo=datetime.timezone.utc)
        return float((datetime.datetime.now(datetime.timezone.utc) - written).total_seconds())

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error. Raises InputError: it cannot be removed."""
        with self._errors("remove", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def _written(self, name: str, write: Any) -> None:
        path = self._path(name)
        with self._errors("write", name):
            self._make_folder(path)
            if not self._rename:
                write(path)
                return
            with TemporaryFolder("storage", Path(path).parent) as folder:
                part = f"{folder}/part"  # whatever the ending: it must not be taken for a file of the storage
                write(part)
                os.replace(part, path)

    def _make_folder(self, path: str) -> None:
        if self._rename:
            os.makedirs(os.path.dirname(path), exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else str(self._root)

    @contextlib.contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        where = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except ImportError as error:  # fsspec's message names the package
            raise PosertError(f"{where}: {error}") from error
        except PosertError:
            raise
        except Exception as error:  # the exceptions of botocore, gcsfs and others share no base class
            raise InputError(f"cannot {verb} {where}: {str(error) or type(error).__name__}") from error


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URL of a storage."""
    return "://" in os.fspath(path)
