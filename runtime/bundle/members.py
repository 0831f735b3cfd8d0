"""The zip of a bundle: its members and its sealed manifest."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

from ..errors import BundleError
from .manifest import MANIFEST, SCHEMA, check_manifest, load_manifest, newer_posert

MAX_MANIFEST = 16 << 20

# What Python's zip reader raises for damage: RuntimeError (and NotImplementedError) for flags and versions it lacks.
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open the file of a bundle.

    Raises:
        BundleError: it is missing, truncated or no zip.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; make one with `posert build --output {path}`") from None
    except _ZIP_ERRORS as error:
        raise BundleError(
            f"{path}: not a pose bundle, or cut short ({error}); copy it again or rebuild it: posert build"
        ) from error


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
    except _ZIP_ERRORS as error:
        raise BundleError(f"{path}: {name} is damaged ({error}); copy it again or rebuild it") from error


def seal(manifest: bytes) -> bytes:
    """The zip's comment: a hash of the manifest, which in its turn holds the hashes of all members."""
    return b"posert " + hashlib.sha256(manifest).hexdigest().encode()
