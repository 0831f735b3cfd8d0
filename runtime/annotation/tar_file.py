"""The images of a tar file, such as WebDataset's. Its headers are not trusted, and a damaged one is no end."""

from __future__ import annotations

import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO

from ..errors import InputError
from ..media.image_file import MAX_BYTES
from ..media.sources import IMAGES

_DAMAGED = (  # what `tarfile` and the decompressors raise on bytes that are no tar file
    *(OSError, EOFError, ValueError, LookupError, ArithmeticError, RecursionError),
    *(tarfile.TarError, zlib.error, lzma.LZMAError),
)
_MAX_NAME = 1 << 20  # bytes of a header that holds a name; `tarfile` reads it whole
_TAIL = 1 << 20  # bytes that are looked at behind the last member; `tar` writes 10 kB
_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class TarImages:
    """The images of a tar file, in its order. Links to other members are read as those.

    Args:
        path: of the file. One that ends in .tar must not be compressed.

    Attributes:
        names: of the images, as they are in the file.

    Raises InputError: it cannot be read to its end, or holds no image.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._plain = path.lower().endswith(".tar")  # bytes are read where they lie
        try:
            with self._open() as tar:
                self._members = list(_images(tar))
        except _DAMAGED as error:
            raise InputError(f"not a tar file that can be read ({error})") from error
        if not self._members:
            raise InputError(f"no image in this tar file; searched for {' '.join(IMAGES)}")
        self.names = tuple(member.name for member in self._members)

    def __iter__(self) -> Iterator[tuple[str, bytes | OSError]]:
        """Names and bytes, or why a member cannot be read."""
        with self._open() as tar, open(self._path, "rb") as raw:
            for member in self._members:
                try:
                    yield member.name, self._read(tar, raw, member)
                except RecursionError:
                    yield member.name, OSError("a link to itself")
                except _DAMAGED as error:
                    yield member.name, error if isinstance(error, OSError) else OSError(str(error))

    def _open(self) -> tarfile.TarFile:
        if not self._plain:
            _check_end(self._path)
        return tarfile.open(self._path, "r:" if self._plain else "r:*", tarinfo=_Header)

    def _read(self, tar: tarfile.TarFile, raw: IO[bytes], member: tarfile.TarInfo) -> bytes:
        if self._plain and member.isreg() and not member.issparse():
            raw.seek(member.offset_data)
            return raw.read(_checked(member.size))
        file = tar.extractfile(member)
        if file is None:
            raise OSError("not a file")
        with file:
            _checked(file.seek(0, os.SEEK_END))
            file.seek(0)
            return file.read()


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _NAMES and header.size > _MAX_NAME:
            raise tarfile.ReadError(f"a name of {header.size} bytes")
        return header


def _images(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        if member.size < 0:  # the next header would be sought before this one, for ever
            raise tarfile.ReadError(f"{member.name} has a size of {member.size}")
        if (member.isfile() or member.islnk() or member.issym()) and member.name.lower().endswith(IMAGES):
            yield member
    # `tarfile` takes a damaged header, and the end of the file, for the end.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    rest = tar.fileobj.read(_TAIL)
    if rest.strip(b"\0"):
        raise tarfile.ReadError(
            f"at byte {tar.offset} there is neither a file nor the end: damaged, or several tar files in one"
        )
    if not rest:
        raise tarfile.ReadError("it may be cut short: the zeros are missing that mark the end")


def _check_end(path: str) -> None:
    """Raise ReadError for a compressed file that ends in many zeros: the decompressors read those byte by byte."""
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) > _TAIL:
            file.seek(-_TAIL, os.SEEK_END)
            if not file.read().strip(b"\0"):
                raise tarfile.ReadError("it ends in zeros: parts of it are missing")


def _checked(size: int) -> int:
    if size > MAX_BYTES:
        raise OSError("larger than 1 GiB")
    return size
