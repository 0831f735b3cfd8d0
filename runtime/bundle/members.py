"""The zip of a bundle: its members and its sealed manifest."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import BundleError
from ..system.zip_errors import ZIP_ERRORS
from .manifest import MANIFEST, SCHEMA, check_manifest, load_manifest, newer_posert
from .signature import PublicKey, check_signature, trusted_keys

MAX_MANIFEST = 16 << 20


class _Zip(zipfile.ZipFile):
    """A zip that closes the file it was given."""

    _own: BinaryIO | None = None  # as of an object whose making a signal ended, and which Python closes all the same

    def __init__(self, file: BinaryIO) -> None:
        self._own = file
        super().__init__(file)

    def close(self) -> None:
        super().close()
        if self._own is not None:
            self._own.close()


def open_zip(path: Path, keys: Iterable[PublicKey] | None = None) -> zipfile.ZipFile:
    """Open the file of a bundle. Where keys are trusted, its signature is checked before anything of it is parsed.

    Args:
        path: the bundle.
        keys: one of them must have signed it; none: anybody's bundle is taken; None: those of `POSERT_TRUSTED_KEYS`.

    Raises:
        BundleError: it is missing, truncated or no zip, or it is not signed by one of the keys.
    """
    trusted = trusted_keys() if keys is None else list(keys)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; make one with `posert build --output {path}`") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    try:
        if trusted:
            check_signature(file, path, trusted)
        return _Zip(file)
    except BaseException as error:
        file.close()
        if isinstance(error, ZIP_ERRORS):
            raise BundleError(
                f"{path}: not a pose bundle, or cut short ({error}); copy it again or rebuild it: posert build"
            ) from error
        raise


def read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """The checked manifest of a bundle.

    Raises:
        BundleError: there is none, it is of another schema, or was changed after the bundle was written.
    """
    data = read_member(archive, path, MANIFEST, MAX_MANIFEST)
    manifest = load_manifest(data)
    newer = newer_posert(manifest)
    if newer is not None:  # before the seal, which may be another one there
        raise BundleError(
            f"{path}: {MANIFEST} has schema {manifest['schema']}, this posert reads up to {SCHEMA}: "
            f'pip install --upgrade "{newer}"'
        )
    if archive.comment != seal(data):
        raise BundleError(
            f"{path}: {MANIFEST} was changed after the bundle was written; rebuild the bundle: posert build"
        )
    return check_manifest(manifest)


def read_member(archive: zipfile.ZipFile, path: Path, name: str, limit: int) -> bytes:
    """The bytes of a member of at most `limit` bytes.

    Raises:
        BundleError: it is missing, compressed, too large or damaged.
    """
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise BundleError(f"{path}: no {name} in it, so it is no pose bundle (or a cut one)") from None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
        raise BundleError(
            f"{path}: {name} is compressed or too large ({info.file_size} bytes, limit {limit}); "
            "a bundle's members are stored as they are: refused"
        )
    try:
        return archive.read(info)
    except ZIP_ERRORS as error:
        raise BundleError(f"{path}: {name} is damaged ({error}); copy it again or rebuild it") from error


def seal(manifest: bytes) -> bytes:
    """The zip's comment: a hash of the manifest, which in its turn holds the hashes of all members."""
    return b"posert " + hashlib.sha256(manifest).hexdigest().encode()
