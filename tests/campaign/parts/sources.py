"""Sources of `posert annotate`: tar files, folders and lists, damaged and named in every way. No image goes lost."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np

from posert.runtime.annotation.reading import Reading
from posert.runtime.annotation.shard import Shard
from posert.runtime.annotation.sources import Found, find
from posert.runtime.errors import InputError
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.command import posert
from posert.tests.campaign.mutate import Rng, change_bytes, pick

_FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
_ODD = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE),
    *(b"Z", b"7", tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE),
)
_NAMES = (
    "a.jpg",
    "b/c.png",
    "../../x.jpg",
    "/etc/y.jpg",
    "ü.jpg",
    "a\nb.jpg",
    "x" * 300 + ".jpg",
    "\udcff.jpg",
    ".jpg",
)
_PAX = ("size", "path", "linkpath", "mtime", "GNU.sparse.major", "GNU.sparse.size", "GNU.sparse.realsize", "hdrcharset")
_VALUES = ("-1", "-512", "-2048", "0", "1", "99999999999999", "1" * 400, "abc", "", "nan", "\0", "é", "1.5")
_SIZES = (-1, -512, 0, 1, 511, 512, 100_000, 1 << 33, 1 << 60)


class _Uses:
    def __init__(self, folder: Path) -> None:
        self.bundle = material.bundle(folder)
        pictures = [material.frame(i, 64, 48) for i in range(4)]
        self.data = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
        self.right = dict(zip(self.data, pictures, strict=True))

    def check(self, shard: Shard, expected: dict[str, bytes], whole: bool = True) -> str:
        """Read a shard. Images of `expected` that are read have its pixels; `whole`: all of them are read."""
        reading = Reading(shard, threads=2)
        read = dict(iter(reading))  # not of `keys`, which it has, too
        if not set(read) <= set(reading.keys):
            raise Defect("frames that nobody named", f"{sorted(map(str, read))[:5]}")
        if lost := set(reading.keys) - set(read):
            raise Defect("frames lost", f"{sorted(lost)[:5]}")
        for name, data in expected.items():
            pixels = read.get(name)
            if pixels is None and whole:
                raise Defect("an image that is not read", f"{name!r}: {reading.why.get(name, 'it is not there')}")
            if pixels is not None and whole and not np.array_equal(pixels, self.right[data]):
                raise Defect("other pixels in silence", name)
        return "equal" if whole else "read"

    def tar(self, case: Case) -> str:
        rng, kind = case.rng, pick(case.rng, _FORMATS)
        path = case.folder / pick(rng, ("a.tar", "a.tar", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2"))
        packing = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
        names = [name for name in _NAMES if kind != tarfile.USTAR_FORMAT or len(name) <= tarfile.LENGTH_NAME]
        plain, expected = io.BytesIO(), {}
        with tarfile.open(fileobj=plain, mode=packing, format=kind) as tar:  # type: ignore[call-overload]
            for i in range(int(rng.integers(1, 5))):
                header = tarfile.TarInfo(pick(rng, names) if rng.random() < 0.3 else f"{i}.png")
                data = pick(rng, self.data)
                header.size = len(data)
                if rng.random() < 0.15:
                    header.type, header.linkname = (
                        pick(rng, _ODD),
                        pick(rng, ("0.png", "1.png", "nowhere", "/etc/passwd")),
                    )
                    case.done.append(f"type {header.type!r}")
                elif kind == tarfile.PAX_FORMAT and rng.random() < 0.2:
                    header.pax_headers = {pick(rng, _PAX): pick(rng, _VALUES)}
                    case.done.append(f"pax {header.pax_headers}")
                elif kind == tarfile.GNU_FORMAT and rng.random() < 0.1:
                    header.size = pick(rng, _SIZES)
                    case.done.append(f"size {header.size}")
                else:
                    expected[header.name] = data
                tar.addfile(header)
                tar.fileobj.write(data.ljust(-(-len(data) // 512) * 512, b"\0"))  # type: ignore[union-attr]
                tar.offset += -(-len(data) // 512) * 512
        return self.read_tar(case, path, plain.getvalue(), expected)

    def read_tar(self, case: Case, path: Path, data: bytes, expected: dict[str, bytes]) -> str:
        rng, whole = case.rng, not case.done
        way = pick(rng, ("as it is", "as it is", "cut", "bytes", "header", "twice"))
        if way == "cut":
            data = data[: int(rng.integers(len(data)))]
        elif way == "twice":
            data += data
        elif way == "bytes":
            data = change_bytes(rng, data, case.done)
        elif way == "header" and path.suffix == ".tar":
            data = _resealed(rng, data, case.done)
        case.done.append(way)
        case.write(path.name, data)
        whole &= case.done[-1] == way  # no hole
        try:
            # A file that was cut and is read without a word has all of its images.
            told = self.check(Shard(0, "tar", str(path)), expected, whole and way in ("as it is", "cut", "twice"))
        except InputError:
            if whole and way == "as it is":
                raise
            return "refused"
        if way == "twice":
            raise Defect("images lost in silence", "of the second of two tar files")
        return told

    def folder(self, case: Case) -> str:
        """Folders in folders with good images among what is none."""
        rng, root = case.rng, case.folder / "root"
        root.mkdir()
        expected = {}
        for i in range(int(rng.integers(1, 8))):
            name = "/".join(pick(rng, ("a", "b c", "é", "\udcff", "x.png", "-x", "[1]", "*")) for _ in range(2))
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            kind = pick(rng, ("good", "good", "good", "bytes", "fifo", "device", "link", "loop", "sparse", "folder"))
            path = root / f"{name}{i}.png"
            case.done.append(f"{kind} {name!r}")
            if kind == "good":
                path.write_bytes(data := pick(rng, self.data))
                expected[f"{name}{i}.png"] = data
            elif kind == "bytes":
                path.write_bytes(change_bytes(rng, pick(rng, self.data), case.done))
            elif kind == "fifo":
                os.mkfifo(path)
            elif kind == "sparse":
                with path.open("wb") as file:
                    file.truncate(3 << 30)
            elif kind == "folder":
                path.mkdir()
            else:
                path.symlink_to({"device": "/dev/zero", "link": "nowhere", "loop": path.name}[kind])
        case.named += (str(root),)
        for found in find([str(root)]):
            self.check(_shard(found), {n: d for n, d in expected.items() if n in found.names})
            if lost := set(expected) - set(found.names):
                raise Defect("images lost in silence", f"{sorted(lost)}")
        return "equal"

    def listed(self, case: Case) -> str:
        """A list of files with bytes that are changed."""
        rng = case.rng
        for i, data in enumerate(self.data):
            (case.folder / f"{i}.png").write_bytes(data)
        lines = [str(case.folder / f"{i}.png").encode() for i in range(4)]
        text = pick(rng, (b"\n", b"\r\n", b"\n\n")).join(lines) + pick(rng, (b"", b"\n"))
        kind = pick(rng, ("as it is", "bytes", "long", "text"))
        case.done.append(kind)
        if kind == "bytes":
            text = change_bytes(rng, text, case.done)
        elif kind == "long":
            text += b"\n" + b"x" * int(rng.integers(1, 1 << 20))
        elif kind == "text":
            text += b"\n" + rng.bytes(40)
        found = find([], str(case.write("list.txt", text)))
        if kind == "as it is":
            (only,) = found
            self.check(_shard(only), {f"{i}.png": data for i, data in enumerate(self.data)})
            return "equal"
        for one in found:
            if one.kind == "images" and one.path == str(case.folder):
                self.check(_shard(one), {}, False)
        return "read"

    def command(self, case: Case) -> str:
        """All of `posert annotate` on a tar file."""
        path = case.folder / "a.tar"
        with tarfile.open(path, "w") as tar:
            for i, data in enumerate(self.data):
                header = tarfile.TarInfo(f"{i}.png")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
        data = change_bytes(case.rng, path.read_bytes(), case.done)
        case.write("a.tar", data)
        out = case.folder / "out"
        told = posert("annotate", path, "--bundle", self.bundle, "--output", out, "--backend", "onnxruntime")
        read, failed = told["frames"] - told["failed_frames"], told["shards"]["failed"]
        if failed != (told["frames"] == 0) or (read < 4 and not failed and not told["failed_frames"]):
            raise Defect("frames lost", f"{told}"[:500])
        return "failed, told" if failed else "annotated"


def _resealed(rng: Rng, data: bytes, done: list[str]) -> bytes:
    """Some bytes of a header changed, under a right checksum."""
    out = bytearray(data)
    heads = [at for at in range(0, len(out) - 511, 512) if out[at + 257 : at + 262] == b"ustar"]
    at = pick(rng, heads)
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(512))
        out[at + place] = int(rng.integers(256))
        done.append(f"header {at} byte {place}")
    total = sum(out[at : at + 148]) + sum(out[at + 156 : at + 512]) + 8 * 32
    out[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(out)


def _shard(found: Found) -> Shard:
    return Shard(0, found.kind, found.path, tuple(found.names))


def open_part(folder: Path) -> Run:
    uses = _Uses(folder)
    ways = (uses.tar,) * 60 + (uses.folder,) * 25 + (uses.listed,) * 13 + (uses.command,) * 2

    def run(case: Case) -> str:
        return pick(case.rng, ways)(case)

    return run


PART = Part(
    "sources",
    "tar files, folders and lists to annotate: damaged, huge, of odd names and kinds",
    4000,
    60,
    open_part,
    starts_programs=True,
)
