"""Bundles that were damaged or changed on the way: the seal and the hashes find it, or the joints are the same."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np

from posert.tests.campaign.bundles import Members, Uses, members
from posert.tests.campaign.case import Case, Part, Run
from posert.tests.campaign.material import bundle
from posert.tests.campaign.mutate import change_bytes, change_json, pick

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
# name, place and width of the fields of a local header, a central one, and the end of the directory
_FIELDS = {
    _LOCAL: {
        "version": (4, 2),
        "flags": (6, 2),
        "method": (8, 2),
        "time": (10, 4),
        "crc": (14, 4),
        "compressed": (18, 4),
        "size": (22, 4),
        "name": (26, 2),
        "extra": (28, 2),
    },
    _CENTRAL: {
        "version": (6, 2),
        "flags": (8, 2),
        "method": (10, 2),
        "crc": (16, 4),
        "compressed": (20, 4),
        "size": (24, 4),
        "name": (28, 2),
        "extra": (30, 2),
        "comment": (32, 2),
        "disk": (34, 2),
        "attributes": (38, 4),
        "offset": (42, 4),
    },
    _END: {
        "disk": (4, 2),
        "entries here": (8, 2),
        "entries": (10, 2),
        "size": (12, 4),
        "offset": (16, 4),
        "comment": (20, 2),
    },
}
_NAMES = (
    "../fp32.onnx",
    "/etc/passwd",
    "fp32.onnx\0.txt",
    "C:\\fp32.onnx",
    "fp32.onnx/",
    "weights.bin",
    "a" * 60000,
    "manifest.json",
    "MANIFEST.JSON",
    "./manifest.json",
    "golden.npz",
    "",
    "\u202efp32",
    "golden.npz ",
)


def _headers(case: Case, data: bytes) -> bytes:
    """A header that says something else."""
    out, rng = bytearray(data), case.rng
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        kind = pick(rng, (_LOCAL, _CENTRAL, _END))
        found = [i for i in range(len(out) - 4) if out[i : i + 4] == kind] if kind != _END else [out.rfind(_END)]
        name = pick(rng, list(_FIELDS[kind]))
        place, width = _FIELDS[kind][name]
        at = pick(rng, found) + place
        old = int.from_bytes(out[at : at + width], "little")
        new = pick(
            rng, (0, 1, 8, 12, 14, 99, old + 1, old - 1, old * 2, old ^ 1, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF, 1 << 30)
        )
        out[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
        case.done.append(f"{name} of {kind!r}: {old} to {new}")
    return bytes(out)


def _pack(entries: list[tuple[zipfile.ZipInfo, bytes]], comment: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for info, data in entries:
            archive.writestr(info, data)
        archive.comment = comment
    return stream.getvalue()


def _members(case: Case, held: Members, comment: bytes) -> bytes:
    """Another zip of the members, without a new seal for a manifest that changed."""
    rng = case.rng
    entries = [(zipfile.ZipInfo(name), data) for name, data in held.items()]
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        at = int(rng.integers(len(entries)))
        info, data = entries[at]
        way = str(
            rng.choice(
                [
                    "rename",
                    "double",
                    "twin",
                    "remove",
                    "extra",
                    "swap",
                    "deflate",
                    "bomb",
                    "link",
                    "data",
                    "manifest",
                    "order",
                    "comment",
                ]
            )
        )
        case.done.append(f"{way} {info.filename[:40]}")
        if way == "rename":
            entries[at] = (zipfile.ZipInfo(pick(rng, _NAMES) or "x"), data)
        elif way == "double":
            entries.append((info, data))
        elif way == "twin":  # one of the name with other bytes
            entries.insert(int(rng.integers(len(entries) + 1)), (zipfile.ZipInfo(info.filename), rng.bytes(50)))
        elif way == "remove" and len(entries) > 1:
            del entries[at]
        elif way == "extra":
            entries.append((zipfile.ZipInfo(pick(rng, _NAMES) or "x"), rng.bytes(100)))
        elif way == "swap":
            other = int(rng.integers(len(entries)))
            entries[at], entries[other] = (info, entries[other][1]), (entries[other][0], data)
        elif way in ("deflate", "bomb"):
            packed = zipfile.ZipInfo(info.filename)
            packed.compress_type = pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            entries[at] = (packed, bytes(8 << 20) if way == "bomb" else data)
        elif way == "link":
            linked = zipfile.ZipInfo(info.filename)
            linked.external_attr = pick(rng, (0o120777 << 16, 0o40755 << 16, 0x10))
            entries[at] = (linked, pick(rng, (b"../decoys/weights.bin", data)))
        elif way == "data":
            entries[at] = (info, change_bytes(rng, data, case.done))
        elif way == "manifest":
            text = json.dumps(change_json(rng, json.loads(held["manifest.json"]), case.done)).encode()
            manifests = [i for i, (entry, _) in enumerate(entries) if entry.filename == "manifest.json" and at == 0]
            entries[(manifests or [0])[0]] = (zipfile.ZipInfo("manifest.json"), text)
        elif way == "order":
            entries = [entries[i] for i in rng.permutation(len(entries))]
        else:
            comment = pick(rng, (b"", b"posert ", comment[:-1], comment.upper(), comment + b"0", rng.bytes(71)))
    return _pack(entries, comment)


def _around(case: Case, data: bytes) -> bytes:
    """Bytes before, behind, or of two bundles."""
    rng = case.rng
    more = pick(rng, (b"\0", rng.bytes(30), data, b"#!/bin/sh\n", bytes(100_000), data[-200:], _END + bytes(18)))
    at = pick(rng, (0, len(data), int(rng.integers(len(data)))))
    case.done.append(f"{len(more)} bytes at {at} of {len(data)}")
    if rng.random() < 0.2:  # the 64-bit directory's locator, which says where to read
        end = data.rfind(_END)
        offset = int(rng.integers(0, 1 << 40)) if rng.random() < 0.5 else end
        record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, *rng.integers(0, 1 << 20, 4).tolist())
        return data[:end] + record + b"PK\x06\x07" + struct.pack("<IQI", 0, offset, 1) + data[end:]
    return data[:at] + more + data[at:]


def open_part(folder: Path) -> Run:
    path = bundle(folder, script=True)
    data, held = path.read_bytes(), members(path)
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    uses = Uses(folder, ("openvino", "onnxruntime", "torchscript"))
    # Most bytes are weights, whose hash finds everything: half of the damage goes where the structure is.
    structure = np.array([*range(len(data) - 700, len(data)), *range(4000)])

    def run(case: Case) -> str:
        way = str(case.rng.choice(["bytes", "ends", "ends", "headers", "headers", "members", "members", "around"]))
        if way == "bytes":
            new = change_bytes(case.rng, data, case.done)
        elif way == "ends":
            at = int(case.rng.choice(structure))
            new = change_bytes(case.rng, data, case.done, at, min(at + 40, len(data)))
        elif way == "headers":
            new = _headers(case, data)
        elif way == "members":
            new = _members(case, held, comment)
        else:
            new = _around(case, data)
        return uses.any_of(case, case.write("case.pose", new), whole=True)

    return run


PART = Part(
    "bundle_bytes", "bundles with flipped, cut or added bytes, lying headers, other members", 10000, 60, open_part
)
