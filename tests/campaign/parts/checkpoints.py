"""Checkpoints that hold code, tensors that lie about their size, and damaged files of every format."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from posert.export.weights.checkpoint import load
from posert.runtime.errors import CheckpointError
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.command import posert
from posert.tests.campaign.hostile import Marker
from posert.tests.campaign.hostile import safetensors as packed
from posert.tests.campaign.mutate import TEXTS, change_bytes, change_json, json_text, pick

_SIZES = (0, 1, -1, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**64, 10**30)


class _Network(torch.nn.Module):
    """A network whose weights checkpoints are to fit."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.last = torch.nn.Conv2d(8, 17, 1)


def _saved(value: Any, old: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


class _Uses:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = _Network()
        self.state = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.new, self.old = _saved({"state_dict": self.state, "epoch": 3}), _saved(OrderedDict(self.state), old=True)
        self.safe = safetensors.torch.save({k: v for k, v in self.state.items() if "tracked" not in k})
        with zipfile.ZipFile(io.BytesIO(self.new)) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}

    def damaged(self, case: Case) -> tuple[str, bytes]:
        suffix, data = pick(case.rng, ((".pth", self.new), (".pt", self.old), (".safetensors", self.safe)))
        end = pick(case.rng, (len(data), 300))
        return suffix, change_bytes(case.rng, data, case.done, 0, end)

    def code(self, case: Case) -> tuple[str, bytes]:
        """A pickle that runs something, as itself or beside tensors."""
        calls: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
            (os.system, ("echo hello > pwned",)),
            (os.popen, ("echo hello > pwned",)),
            (exec, ("open('pwned', 'w')",)),
            (eval, ("__import__('os').system('echo > pwned')",)),
            (builtins.open, ("pwned", "w")),
            (Path.touch, (Path("pwned"),)),
            (getattr, (os, "system")),
            (torch.load, ("weights.bin",)),
            (bytearray, (10**10,)),
            (list, (range(10**12),)),
            (torch.zeros, (10**11,)),
            (torch.hub.load, ("x", "y")),
            (builtins.__import__, ("antigravity",)),
        )
        call, arguments = pick(case.rng, calls)
        case.done.append(f"code {call.__module__}.{call.__name__}")
        held: Any = Marker(call, arguments)
        held = pick(
            case.rng,
            (held, {"state_dict": held}, {"state_dict": {**self.state, "x": held}}, {**self.state, "meta": held}),
        )
        way = int(case.rng.integers(3))
        try:
            return ".pth", (
                _saved(held),
                _saved(held, old=True),
                pickle.dumps(held, protocol=int(case.rng.integers(6))),
            )[way]
        except Exception:  # modules and the like, which no pickle holds
            return ".pth", pickle.dumps(Marker())

    def lying(self, case: Case) -> tuple[str, bytes]:
        """Numbers in the pickle, or in the archive's records, that are not those of the data."""
        rng, files = case.rng, dict(self.files)
        name = next(n for n in files if n.endswith("data.pkl"))
        way = str(rng.choice(["number", "number", "storage", "gone", "deflate", "bomb", "twin", "path", "order"]))
        case.done.append(f"lying {way}")
        if way == "number":  # BININT1, BININT2, BININT and LONG1 of sizes, strides, offsets
            data = files[name]
            places = [i for i in range(len(data) - 5) if data[i : i + 1] in (b"K", b"M", b"J")]
            at = pick(rng, places)
            old = {75: 2, 77: 3, 74: 5}[data[at]]
            value = pick(rng, _SIZES)
            long = value.to_bytes(16, "little", signed=True)
            files[name] = data[:at] + b"\x8a" + bytes([len(long)]) + long + data[at + old :]
            case.done.append(f"{value} at {at}")
        elif way == "storage":
            key = pick(rng, [n for n in files if "/data/" in n])
            files[key] = files[key][: int(rng.integers(len(files[key]) + 1))] + bytes(pick(rng, (0, 4, 10**6)))
        elif way == "gone":
            del files[pick(rng, list(files))]
        elif way == "bomb":
            files[pick(rng, list(files))] = bytes(1 << 28)
        elif way == "path":
            files = {n.replace("archive", pick(rng, ("..", "/etc", "a/../..", ""))): d for n, d in files.items()}
        elif way == "order":
            files = {n: files[n] for n in rng.permutation(list(files)).tolist()}
        data = _zip(files, zipfile.ZIP_DEFLATED if way in ("deflate", "bomb") else zipfile.ZIP_STORED)
        return ".pth", data if way != "twin" else _zip({**files, f"{name} ": files[name]})

    def header(self, case: Case) -> tuple[str, bytes]:
        """A safetensors header of other values."""
        size = struct.unpack("<Q", self.safe[:8])[0]
        value, data = json.loads(self.safe[8 : 8 + size]), self.safe[8 + size :]
        said = None
        if case.rng.random() < 0.3:
            said = int(pick(case.rng, (0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1, 100_000_001)))
            case.done.append(f"a header of {said} bytes")
        else:
            name = pick(case.rng, list(value))
            way = str(case.rng.choice(["shape", "offsets", "dtype", "any", "name"]))
            case.done.append(way)
            if way == "shape":
                value[name]["shape"] = [
                    int(min(pick(case.rng, _SIZES), 2**63)) for _ in range(int(case.rng.integers(5)))
                ]
            elif way == "offsets":
                value[name]["data_offsets"] = [int(min(pick(case.rng, _SIZES), 2**63)) for _ in range(2)]
            elif way == "dtype":
                value[name]["dtype"] = pick(case.rng, ("F64", "F16", "BF16", "I8", "F8_E4M3", "X", "", None, "BOOL"))
            elif way == "name":
                value[pick(case.rng, TEXTS)] = value.pop(name)
            else:
                value = change_json(case.rng, value, case.done)
        return ".safetensors", packed(json_text(case.rng, value, case.done), data, said)

    def run(self, case: Case) -> str:
        ways = (self.damaged, self.damaged, self.code, self.lying, self.lying, self.header)
        suffix, data = pick(case.rng, ways)(case)
        path = case.write(f"case{suffix}", data)
        if case.rng.random() < 0.2:
            posert("contract", path)
            return "described"
        found = load(path, self.network)
        if not all(torch.isfinite(value).all() for value in found.state_dict.values()):
            raise Defect("weights that are no numbers")
        # An archive's own checksum finds what was damaged there; others have none, and numbers may differ.
        same = all(torch.equal(value, self.state[key]) for key, value in found.state_dict.items())
        return "equal" if same else "other numbers"


def open_part(folder: Path) -> Run:
    uses = _Uses()
    with contextlib.suppress(CheckpointError):  # imports what it needs before the watch begins
        load(folder / "none.pth", uses.network)
    return uses.run


PART = Part(
    "checkpoints", "checkpoints: code in pickles, lying tensors and headers, damaged files", 3000, 40, open_part
)
