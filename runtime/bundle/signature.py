"""Signatures of bundles in minisign's format: BUNDLE.pose.minisig beside the bundle.

The seal in a bundle finds damage; anybody can write a new one. A signature says whose bundle it is: Ed25519 over the
BLAKE2b hash of the whole file, so that nothing of a bundle is parsed before its owner is known.
(Frank Denis, https://jedisct1.github.io/minisign/; the `minisign` program reads and writes the same files.)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import BundleError, InputError, PosertError
from ..system.files import atomic_write
from ..system.text import writable

SUFFIX = ".minisig"
TRUSTED_KEYS = "POSERT_TRUSTED_KEYS"
"""Environment variable: files of public keys, or the keys, separated as in PATH. Where it is set, every bundle that is
opened must be signed by one of them."""

_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_KEY, _SIGNATURE, _SECRET = 42, 74, 158  # bytes of what the files hold in base64
_MAX_BYTES = 4096


@dataclass(frozen=True)
class PublicKey:
    """The key that a signature is checked with: `RW...`, as minisign prints it."""

    number: bytes
    point: bytes

    @property
    def id(self) -> str:
        """The key's number, as minisign shows it."""
        return self.number[::-1].hex().upper()

    def __str__(self) -> str:
        return base64.b64encode(b"Ed" + self.number + self.point).decode()

    @classmethod
    def read(cls, given: str | os.PathLike[str]) -> PublicKey:
        """A key from its text, or from a file as minisign writes it. Raises InputError: it is neither."""
        text = str(given).strip()
        data = _decoded(text)
        if len(data) != _KEY:
            data = _decoded((_lines(Path(text), "public key") + [""] * 2)[1])
        if len(data) != _KEY or data[:2] != b"Ed":
            raise InputError(f"{text[:200]}: no public key, expected RW... or a file that `posert sign new-key` wrote")
        return cls(data[2:10], data[10:])


@dataclass(frozen=True)
class SecretKey:
    """The key that signs. Who has it can sign in its owner's name."""

    number: bytes
    seed: bytes = b""

    @property
    def public(self) -> PublicKey:
        """Its public key."""
        return PublicKey(self.number, self._private().public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """The signature `(64,)` of some bytes."""
        signed: bytes = self._private().sign(message)
        return signed

    def _private(self) -> Any:
        return _ed25519().Ed25519PrivateKey.from_private_bytes(self.seed)

    @classmethod
    def read(cls, path: Path, passphrase: Callable[[], str]) -> SecretKey:
        """A key from a file of minisign or `posert sign new-key`; `passphrase` is asked for where it is encrypted.

        Raises InputError: the file is no secret key, or the passphrase is wrong.
        """
        data = _decoded((_lines(path, "secret key") + [""] * 2)[1])
        if len(data) != _SECRET or data[:2] != b"Ed" or data[2:4] not in (b"Sc", b"\0\0") or data[4:6] != b"B2":
            raise InputError(f"{path}: no secret key of minisign; make one with: posert sign new-key FILE")
        body = data[54:]
        if data[2:4] == b"Sc":
            stream = _scrypt(
                passphrase(), data[6:38], *(int.from_bytes(data[at : at + 8], "little") for at in (38, 46))
            )
            body = bytes(a ^ b for a, b in zip(body, stream, strict=True))
        # minisign 0.11 writes no checksum into keys that are not encrypted
        known = (_checksum(body[:72]), bytes(32)) if data[2:4] == b"\0\0" else (_checksum(body[:72]),)
        key = cls(body[:8], body[8:40])
        if body[72:] not in known or key.public.point != body[40:72]:
            raise InputError(f"{path}: the passphrase is wrong, or the file is damaged")
        return key

    @classmethod
    def new(cls) -> SecretKey:
        """A new key."""
        return cls(secrets.token_bytes(8), secrets.token_bytes(32))

    def write(self, path: Path) -> Path:
        """Write the key, for its owner's eyes alone and unencrypted, and beside it PATH.pub, which is returned.

        Raises InputError: a file is there already, or cannot be written.
        """
        public = path.with_name(f"{path.name}.pub")
        if taken := next((file for file in (path, public) if file.exists()), None):
            raise InputError(f"{taken}: is there already; a key that is overwritten is lost")
        body = self.number + self.seed + self.public.point
        data = b"Ed" + b"\0\0" + b"B2" + bytes(48) + body + _checksum(body)
        with atomic_write(public) as file:
            file.write(f"{_UNTRUSTED}public key {self.public.id}\n{self.public}\n".encode())
        text = f"{_UNTRUSTED}secret key {self.public.id}\n{base64.b64encode(data).decode()}\n"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as target:
                target.write(text)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        return public


def sign(path: Path, key: SecretKey) -> Path:
    """Write the signature of a file beside it; returns its path."""
    with path.open("rb") as file:
        signature = key.sign(_digest(file))
    comment = f"timestamp:{int(time.time())}\tfile:{writable(path.name)}\thashed"
    lines = (
        f"{_UNTRUSTED}signature of posert, key {key.public.id}",
        base64.b64encode(b"ED" + key.number + signature).decode(),
        f"{_TRUSTED}{comment}",
        base64.b64encode(key.sign(signature + comment.encode())).decode(),
    )
    target = path.with_name(path.name + SUFFIX)
    with atomic_write(target) as out:
        out.write("".join(f"{line}\n" for line in lines).encode())
    return target


def trusted_keys() -> list[PublicKey]:
    """The keys in `POSERT_TRUSTED_KEYS`; none where it is not set.

    Raises InputError: it is empty, or names no key.
    """
    given = os.environ.get(TRUSTED_KEYS)
    if given is None:
        return []
    keys = [PublicKey.read(one) for one in given.split(os.pathsep) if one.strip()]
    if not keys:
        raise InputError(f"{TRUSTED_KEYS} is empty: name a public key, or unset it to take bundles of anybody")
    return keys


def check_signature(file: BinaryIO, path: Path, keys: Iterable[PublicKey]) -> tuple[PublicKey, str]:
    """Check that one of these keys signed a file that is open; it is left at its beginning.

    Args:
        file: what is going to be read.
        path: its path, for messages and to find the signature.
        keys: those that are trusted.

    Returns:
        the key, and the comment that was signed with the file.

    Raises:
        BundleError: there is no signature, it is of another key, or the file or its signature was changed.
    """
    trusted = {key.number: key for key in keys}
    known = ", ".join(key.id for key in trusted.values())
    target = path.with_name(path.name + SUFFIX)
    if not target.is_file():
        raise BundleError(f"{path}: not signed, and only what the key {known} signed is trusted: no {target.name}")
    first, second, third, fourth = ([*_lines(target, "signature"), *[""] * 4])[:4]
    data, whole = _decoded(second), _decoded(fourth)
    if (
        not first.startswith(_UNTRUSTED)
        or not third.startswith(_TRUSTED)
        or len(data) != _SIGNATURE
        or len(whole) != 64
    ):
        raise BundleError(f"{target}: no signature of minisign; sign it again: posert sign")
    if data[:2] != b"ED":
        raise BundleError(f"{target}: a signature of minisign's old kind; sign it again: posert sign")
    key = trusted.get(data[2:10])
    if key is None:
        raise BundleError(f"{path}: signed by the key {data[9:1:-1].hex().upper()}; trusted: {known}")
    comment = third.removeprefix(_TRUSTED)
    public = _ed25519().Ed25519PublicKey.from_public_bytes(key.point)
    for signature, message in ((data[10:], _digest(file)), (whole, data[10:] + comment.encode())):
        try:
            public.verify(signature, message)
        except Exception as error:  # cryptography's InvalidSignature, which cannot be named without importing it
            raise BundleError(
                f"{path}: was changed since the key {key.id} signed it, or its signature was; copy both again"
            ) from error
    return key, comment


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise PosertError('signatures need the Python package cryptography: pip install "posert[sign]"') from error
    return ed25519


def _digest(file: BinaryIO) -> bytes:
    """BLAKE2b of a file from its beginning, to which it returns."""
    digest = hashlib.blake2b()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0)
    return digest.digest()


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(b"Ed" + body, digest_size=32).digest()


def _scrypt(passphrase: str, salt: bytes, operations: int, memory: int) -> bytes:
    """104 bytes, with the parameters that libsodium takes for these limits (`pickparams`)."""
    operations = max(operations, 32768)
    cheap = operations < memory // 32
    most = operations // 32 if cheap else memory // 1024
    n = next((n for n in range(1, 63) if 1 << n > most // 2), 1)
    p = 1 if cheap else min(operations // 4 >> n, 0x3FFFFFFF) // 8
    if not 0 < p << n <= 1 << 20:
        raise InputError("the secret key asks for more memory or time than minisign ever does")
    return hashlib.scrypt(
        passphrase.encode(), salt=salt, n=1 << n, r=8, p=p, maxmem=(1 << n + 10) + (1 << 25), dklen=104
    )


def _lines(path: Path, what: str) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        return [line.removesuffix("\r") for line in data.decode().split("\n")]
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)[:200]}: no {what} can be read: {error}") from error


def _decoded(text: str) -> bytes:
    """Bytes of a base64 text; none where it is no such text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
