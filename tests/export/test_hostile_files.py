"""Checkpoints, ONNX graphs and labels that attack their reader: refused or read in 2 s and 200 MB, nothing executed.

Configs are in configs/test_hostile.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

SECONDS, MEGABYTES = 2.0, 200
Outcomes = dict[str, tuple[str, float, float]]


def long1(number: int) -> bytes:
    data = number.to_bytes((number.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(data)) + data  # LONG4


def call(name: str, arguments: bytes) -> bytes:
    """The pickle of a call; `arguments` push what it is called with."""
    return b"c" + name.encode().replace(b" ", b"\n") + b"\n(" + arguments + b"tR"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


SYSTEM = call("os system", text("touch {canary}"))
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
)
STATE = b"\x80\x02}" + text("state_dict") + b"}" + text("w")  # and its value, and `ss.`


def tensor(count: bytes, size: bytes, stride: bytes, offset: bytes = b"K\0") -> bytes:
    return TENSOR + count + b"tQ" + offset + size + stride + b"\x89" + call("collections OrderedDict", b"") + b"tR"


LONG = long1(1 << 80_000_000)
MANY = b"(" + b"K\x01" * 9999 + b"t"
GOOD = tensor(b"K\x04", b"K\x04\x85", b"K\x01\x85")
PICKLES = {
    "os.system": b"\x80\x02" + SYSTEM + b".",
    "os.system beside the weights": b"\x80\x02}" + text("meta") + SYSTEM + b"s.",
    "posix.system": b"\x80\x02" + call("posix system", text("touch {canary}")) + b".",
    "eval": b"\x80\x02" + call("builtins eval", text("open('{canary}', 'w')")) + b".",
    "exec": b"\x80\x02" + call("builtins exec", text("open('{canary}', 'w')")) + b".",
    "open": b"\x80\x02" + call("builtins open", text("{canary}") + text("w")) + b".",
    "getattr of getattr": b"\x80\x02" + call("builtins getattr", b"cbuiltins\ngetattr\n" + text("__self__")) + b".",
    "getattr, then a call": b"\x80\x02" + call("builtins getattr", b"cos\nO_RDONLY\n" + text("x")) + b"(tR.",
    "apply of a call": b"\x80\x02" + call("functools partial", b"cos\nsystem\n" + text("touch {canary}")) + b")R.",
    "an instance": b"(" + text("touch {canary}") + b"ios\nsystem\n.",
    "an object": b"(cos\nsystem\n" + text("touch {canary}") + b"o.",
    "a new object": b"\x80\x02cos\nsystem\n" + text("touch {canary}") + b"\x85\x81.",
    "a stacked name": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text("touch {canary}") + b"\x85R.",
    "runpy": b"\x80\x02" + call("runpy run_path", text("{canary}")) + b".",
    "a module of torch": b"\x80\x02" + call("torch.hub load", text("x") + text("y")) + b".",
    "torch.load": b"\x80\x02" + call("torch load", text("{canary}")) + b".",
    "numpy.load": b"\x80\x02" + call("numpy load", text("{canary}")) + b".",
    "a state that is set": b"\x80\x02cos\nenviron\n}" + text("PATH") + text("x") + b"sb.",
    "a persistent id": b"\x80\x02" + text("x") + b"Q.",
    "an extension": b"\x80\x02\x82\x01.",
    "a chain of calls": b"\x80\x02cbuiltins\ngetattr\n" + b")R" * 200_000 + b".",
    "a chain of tuples": b"\x80\x02)" + b"\x85" * 400_000 + b".",
    "many steps": b"\x80\x02]" + b"N0" * 20_000_000 + b".",
    "many objects": b"\x80\x02](" + b"}" * 30_000_000 + b"e.",
    "many classes": b"\x80\x02](" + b"ca\nb\n" * 3_000_000 + b"e.",
    "a memo of many": b"\x80\x04]" + b"\x94" * 30_000_000 + b".",
    "a memo beyond its end": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a dict that holds itself": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
    "laughs": b"\x80\x02]q\x00" + b"".join(b"](" + b"h%c" % i * 9 + b"eq%c" % (i + 1) for i in range(60)) + b".",
    "a large text, encoded again and again": b"\x80\x02" + text("x" * 10_000_000) + b"q\x000("
    + b"c_codecs\nencode\nh\x00\x8c\x06latin1\x86R" * 300 + b"l.",
    "a large list, as a dict again and again": b"\x80\x02](" + b"NN\x86" * 100_000 + b"eq\x000("
    + b"ccollections\nOrderedDict\nh\x00\x85R" * 300 + b"l.",
    "a bytearray of a number": b"\x80\x02" + call("builtins bytearray", long1(10**11)) + b".",
    "a bytearray of a size that lies": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "bytes of a size that lies": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a text of a size that lies": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a frame of a size that lies": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    "a number of a size that lies": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a number of a negative size": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "a number of many digits": b"L" + b"9" * 5_000_000 + b"L\n.",
    "a float of many digits": b"F" + b"9" * 5_000_000 + b"\n.",
    "sizes of many digits": STATE + tensor(b"K\x04", LONG * 2 + b"\x86", b"K\x01K\x01\x86") + b"ss.",
    "a tensor of a size that lies": STATE + tensor(b"K\x04", long1(10**11) + b"\x85", b"K\x01\x85") + b"ss.",
    "a tensor of one element, stretched": STATE + tensor(b"K\x04", long1(10**11) + b"\x85", b"K\0\x85") + b"ss.",
    "a tensor with a negative offset": STATE + tensor(b"K\x04", b"K\x04\x85", b"K\x01\x85", long1(-4)) + b"ss.",
    "a storage of a size that lies": STATE + tensor(long1(10**11), b"K\x04\x85", b"K\x01\x85") + b"ss.",
    "a tensor of many dimensions": STATE + tensor(b"K\x04", MANY, MANY) + b"ss.",
    "a tensor of texts": STATE + tensor(text("4"), text("4") + b"\x85", text("1") + b"\x85") + b"ss.",
    "a shape of an array that lies": b"\x80\x02}" + text("meta") + b"}" + text("dataset_meta") + b"}" + text("sigmas")
    + call("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\nK\0\x85" + text("b"))
    + b"(K\x01(" + b"J\xa0\x86\x01\0" * 20_000 + b"tcnumpy\ndtype\n(" + text("f4") + b"\x89\x88tR\x89]tbsss.",
    "a mark that is not there": b"\x80\x02t.",
    "no end": b"\x80\x02}",
}  # fmt: skip


def torch_zip(path: Path, data: bytes, members: dict[str, bytes] | None = None, compression: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3")
        for name, content in (members or {"archive/data/0": bytes(16)}).items():
            archive.writestr(name, content)
    return path


def zipped(name: str, path: Path) -> Path:
    """A checkpoint whose zip is the attack."""
    good = STATE + GOOD + b"ss."
    if name == "a bomb in the pickle":
        return torch_zip(path, bytes(300 << 20), compression=zipfile.ZIP_DEFLATED)
    if name == "a bomb in a storage":
        state = STATE + tensor(long1(75 << 20), long1(75 << 20) + b"\x85", b"K\x01\x85") + b"ss."
        return torch_zip(path, state, {"archive/data/0": bytes(300 << 20)}, zipfile.ZIP_DEFLATED)
    if name == "names that climb":
        return torch_zip(path, good, {"../../../../{canary}": b"x", "archive/data/0": bytes(16)})
    if name == "two pickles":
        return torch_zip(path, good, {"other/data.pkl": good, "archive/data/0": bytes(16)})
    if name == "a link":
        info = zipfile.ZipInfo("archive/data/0")
        info.external_attr = 0o120777 << 16
        torch_zip(path, good, {"archive/x": b""})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(info, "/etc/passwd")
        return path
    torch_zip(path, good)
    data = path.read_bytes()
    if name == "cut off":
        path.write_bytes(data[: len(data) // 2])
    elif name == "a directory of sizes that lie":
        at = data.index(b"PK\x01\x02")
        path.write_bytes(data[: at + 20] + b"\xf0\xff\xff\xff\xf0\xff\xff\xff" + data[at + 28 :])
    elif name == "members that overlap":
        at, entries = data.index(b"PK\x01\x02"), 4_000
        end = data.index(b"PK\x05\x06")
        entry = data[at : data.index(b"PK\x01\x02", at + 4)]
        directory = entry * entries
        tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, entries, entries, len(directory), at, 0)
        path.write_bytes(data[:at] + directory + tail)
        assert end
    elif name == "many members":
        with zipfile.ZipFile(path, "a") as archive:
            for i in range(20_000):
                archive.writestr(f"archive/x{i}", b"")
    return path


ZIPS = (
    "a bomb in the pickle", "a bomb in a storage", "names that climb", "two pickles", "a link", "cut off",
    "a directory of sizes that lie", "members that overlap", "many members",
)  # fmt: skip

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
KEYS = pickle.dumps(["0"], 2)
OLD = {
    "old: os.system": MAGIC + b"\x80\x02" + SYSTEM + b"." + KEYS,
    "old: os.system at once": b"\x80\x02" + SYSTEM + b".",
    "old: a bytearray of a number": MAGIC + b"\x80\x02" + call("builtins bytearray", long1(10**11)) + b"." + KEYS,
    "old: a storage of a size that lies": MAGIC + STATE
    + tensor(long1(10**11), b"K\x04\x85", b"K\x01\x85").replace(b"tQ", b"NtQ") + b"ss." + KEYS + bytes(64),
    "old: many steps": MAGIC + b"\x80\x02]" + b"N0" * 5_000_000 + b"." + KEYS,
    "a web page": b"<!doctype html>" + b"<p>" * 100_000,
    "nothing": b"",
    "zeros": bytes(1 << 20),
}  # fmt: skip


def safetensors(header: bytes, size: int | None = None, data: bytes = bytes(16)) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def entry(shape: Any = (4,), offsets: Any = (0, 16), dtype: str = "F32") -> bytes:
    return json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


SAFETENSORS = {
    "a header of a size that lies": safetensors(entry(), 1 << 62),
    "a header of the file's size": safetensors(b"{" * 200, 216),
    "a deep header": safetensors(b'{"a":' + b"[" * 100_000),
    "a long header": safetensors(b"{" + b" " * 50_000_000 + b"}"),
    "offsets beyond the end": safetensors(entry((1 << 40,), (0, 1 << 42))),
    "offsets that overlap": safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
                                        b'"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "a negative shape": safetensors(entry((-4,), (0, 16))),
    "a shape that overflows": safetensors(entry((1 << 62, 1 << 62), (0, 16))),
    "a shape of no elements": safetensors(entry((0, 1 << 62), (0, 0)), data=b""),
    "an unknown type": safetensors(entry(dtype="OBJECT")),
}  # fmt: skip


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def message(field: int, content: bytes) -> bytes:
    """A field of protobuf that is a message or text."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def deep_graph(depth: int) -> bytes:
    """Graphs in an attribute of a node of a graph."""
    parts = b""
    for _ in range(depth):
        parts = message(1, message(5, message(6, parts)))
    return b"\x08\x09" + message(7, parts)


def shape(*sizes: int) -> bytes:
    return b"".join(message(1, b"\x08" + varint(size)) for size in sizes)


def value(name: str, *sizes: int) -> bytes:
    return message(1, name.encode()) + message(2, message(1, b"\x08\x01" + message(2, shape(*sizes))))


def onnx_graph(nodes: bytes = b"", constants: bytes = b"", more: bytes = b"") -> bytes:
    ports = message(11, value("x", 1, 3, 32, 24)) + message(12, value("y", 1, 3, 8, 6))
    return b"\x08\x09" + message(7, nodes + constants + ports) + message(8, b"\x10\x11") + more


def node(operator: str, inputs: str = "x", output: str = "y", attributes: bytes = b"") -> bytes:
    return message(
        1, message(1, inputs.encode()) + message(2, output.encode()) + message(4, operator.encode()) + attributes
    )


EXTERNAL = message(13, message(1, b"location") + message(2, b"{where}")) + b"\x70\x01"
LYING = b"\x08" + varint(1 << 40) + b"\x10\x01" + message(8, b"w")  # a float tensor of 2**40 elements and no data
ONNX = {
    "graphs in graphs": deep_graph(5_000),
    "graphs in graphs, as deep as is read": deep_graph(30),
    "a length beyond the end": b"\x08\x09:" + varint(1 << 60),
    "a length of two GiB": b"\x08\x09:" + varint((1 << 31) - 1) + bytes(64),
    "groups": b"\x08\x09" + b"\x3b" * 500_000,
    "many unknown fields": b"\x08\x09" + b"\xf8\x07\x01" * 5_000_000,
    "a tensor of a size that lies": onnx_graph(node("Add"), message(5, LYING)),
    "a constant of a size that lies": onnx_graph(node("ConstantOfShape", "w"), message(5, LYING)),
    "an output of many elements": onnx_graph(
        node("ConstantOfShape", "w"),
        message(5, b"\x08\x04\x10\x07" + message(8, b"w") + message(9, struct.pack("<4q", 1, 3, 1 << 20, 1 << 20))),
    ),
    "an image of many pixels": b"\x08\x09" + message(
        7, node("Relu") + message(11, value("x", 1, 3, 1 << 30, 1 << 30)) + message(12, value("y", 1, 3, 8, 6))
    ) + message(8, b"\x10\x11"),
    "a circle": onnx_graph(node("Relu", "z", "y") + node("Relu", "y", "z")),
    "data outside": onnx_graph(node("Add"), message(5, b"\x08\x04\x10\x01" + message(8, b"w")
                               + EXTERNAL.replace(b"\x07{where}", b"\x0b/etc/passwd"))),
    "data above": onnx_graph(node("Add"), message(5, b"\x08\x04\x10\x01" + message(8, b"w")
                             + EXTERNAL.replace(b"\x07{where}", b"\x18../../../../etc/passwd!"))),
    "an operator of a library": onnx_graph(message(1, message(1, b"x") + message(2, b"y") + message(4, b"Run")
                                           + message(7, b"evil"))),
    "a contract that is none": onnx_graph(node("Relu"), more=message(
        14, message(1, b"posert.contract") + message(2, b"[" * 100_000))),
    "long names": onnx_graph(node("Relu", "x" * 5_000_000)),
    "cut off": onnx_graph(node("Relu"))[:-20],
}  # fmt: skip


def coco(joints: Any = "[1, 2, 2]", box: str = "[0, 0, 9, 9]", image: str = "1", head: str = "") -> str:
    annotation = (
        f'{{"id": 1, "image_id": {image}, "num_keypoints": 1, "bbox": {box}, "area": 81, "keypoints": {joints}}}'
    )
    return f'{{{head}"images": [{{"id": 1, "file_name": "1.png"}}], "annotations": [{annotation}]}}'


LABELS = {
    "NaN.json": coco("[NaN, 2, 2]"),
    "Infinity.json": coco("[1, Infinity, 2]"),
    "a huge number.json": coco(f"[1{'0' * 400}, 2, 2]"),
    "a number of many digits.json": coco(f"[{'9' * 5_000_000}, 2, 2]"),
    "a huge float.json": coco("[1e999, 2, 2]"),
    "a huge box.json": coco(box=f"[0, 0, 1{'0' * 400}, 9]"),
    "a box of NaN.json": coco(box="[0, 0, NaN, 9]"),
    "deep.json": coco("[" * 200_000),
    "deep elsewhere.json": coco(head='"info": ' + "[" * 200_000),
    "a name that climbs.json": coco().replace("1.png", "../" * 50 + "etc/passwd"),
    "an absolute name.json": coco().replace("1.png", "/etc/passwd"),
    "a name with a null byte.json": coco().replace("1.png", "\\u0000"),
    "a name that is a number.json": coco().replace('"1.png"', "7"),
    "an id that is a list.json": coco(image="[1]"),
    "an id that is a dict.json": coco(image='{"a": 1}'),
    "keypoints of texts.json": coco('["1", "2", "2"]'),
    "keypoints of lists.json": coco("[[1], [2], [2]]"),
    "a million joints.json": coco("[" + "1, " * 2_999_999 + "2]"),
    "null.json": "null",
    "a number.json": "1" * 4_000,
    "not UTF-8.json": b"\xff\xfe\x00",
    "a lone surrogate.json": coco().replace("1.png", "\\ud800"),
    "a million columns.csv": "scorer" + ",a" * 1_000_000 + "\nbodyparts" + ",b" * 1_000_000 + "\n"
    + "coords" + ",x,y" * 500_000 + "\na.png" + ",1" * 1_000_000 + "\n",
    "a million rows.csv": "scorer,a,a\nbodyparts,b,b\ncoords,x,y\n" + "a.png,,\n" * 1_000_000,
    "one long cell.csv": "scorer,a,a\nbodyparts,b,b\ncoords,x,y\n" + '"' + "x" * 20_000_000,
    "a null byte.csv": "scorer,a,a\nbodyparts,b,b\ncoords,x,y\n\0.png,1,2\n",
    "a name that climbs.csv": "scorer,a,a\nbodyparts,b,b\ncoords,x,y\n../../../../../etc/passwd,1,2\n",
    "a formula.csv": "scorer,a,a\nbodyparts,b,b\ncoords,x,y\na.png,=cmd|'/c touch {canary}'!A1,2\n",
    "huge numbers.csv": "scorer,a,a\nbodyparts,b,b\ncoords,x,y\na.png,1e308,1e308\nb.png,1,2\n",
    "numbers of many digits.csv": "scorer,a,a\nbodyparts,b,b\ncoords,x,y\na.png," + "9" * 100_000 + ",2\n",
}  # fmt: skip

NAMES = ", ".join(f"j{i}" for i in range(5_000))
JOINTS = {
    "billion laughs.yaml": "name: x\nkeypoints: &a0 [a]\n"
    + "".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)),
    "a Python object.yaml": "name: !!python/object/apply:os.system ['touch {canary}']\nkeypoints: [a]\n",
    "a Python name.yaml": "name: !!python/name:os.system\nkeypoints: [a]\n",
    "names of many kinds.yaml": "name: x\nkeypoints: [1, null, [a], {b: c}]\n",
    "many names.yaml": f"name: x\nkeypoints: [{NAMES}]\nflip_pairs: [[0, 4999]]\n",
    "an index of many digits.yaml": f"name: x\nkeypoints: [a, b]\nflip_pairs: [[0, {'9' * 4_000}]]\n",
    "sigmas of NaN.yaml": "name: x\nkeypoints: [a, b]\nsigmas: [.nan, .inf]\n",
    "terminal escapes.yaml": 'name: "\\e]0;x\\a\\e[2J"\nkeypoints: [a]\n',
    "a program.py": "import os\nos.system('touch {canary}')\ndataset_info = dict(dataset_name=os.popen('id'))\n",
    "deep.json": '{"keypoint_info": ' + "[" * 100_000,
    "categories of many.json": '{"categories": [' + '{"keypoints": ["a"]}, ' * 30_000 + "{}]}",
    "kpt_shape.yaml": "kpt_shape: [1000000000000, 3]\nflip_idx: [0]\n",
}  # fmt: skip


def attempts(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """For the sandbox. What reads a file has read a good one before, so that it has imported what it needs."""
    import torch

    from posert.export.configs import read_description, read_joints
    from posert.export.graph.from_onnx import from_onnx
    from posert.export.weights import checkpoint
    from posert.runtime.accuracy.frames import read_frames
    from posert.runtime.bundle.contract import Contract
    from posert.runtime.errors import PosertError
    from posert.runtime.pose.heads import head

    network = torch.nn.Linear(4, 1, bias=False)
    contract = Contract("test", ("a", "b", "c"), (), (), (), 24, 32, 6, 8)
    head("default")
    (folder / "1.png").write_bytes(b"")
    good = torch_zip(folder / "good.pth", STATE + GOOD + b"ss.")
    for warm in (partial(checkpoint.load, good, network), partial(read_description, good)):
        with contextlib.suppress(PosertError):
            warm()
    canary = str(folder / "canary").encode()

    def file(name: str, data: bytes | str) -> Path:
        path = folder / name.replace(":", "")
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        if b"{canary}" in data and name.rpartition(".")[2] in ("py", "csv", "yaml"):
            data = data.replace(b"{canary}", canary)
        path.write_bytes(data)
        return path

    def with_canary(data: bytes) -> bytes:
        old = text("touch {canary}"), text("{canary}"), text("open('{canary}', 'w')")
        for part in old:
            data = data.replace(part, text(part[5:].replace(b"{canary}", canary).decode()))
        return data

    for name, data in PICKLES.items():
        path = torch_zip(folder / "p.pth", with_canary(data))
        yield f"describe: {name}", partial(read_description, path)
        yield f"load: {name}", partial(checkpoint.load, path, network)
    for name in ZIPS:
        path = zipped(name, folder / "z.pth")
        yield f"describe: {name}", partial(read_description, path)
        yield f"load: {name}", partial(checkpoint.load, path, network)
    for name, data in OLD.items():
        path = file("old.pth", with_canary(data))
        yield f"describe: {name}", partial(read_description, path)
        yield f"load: {name}", partial(checkpoint.load, path, network)
    with tarfile.open(folder / "t.pth", "w") as archive:
        for member in ("storages", "tensors", "pickle", "../../canary"):
            info = tarfile.TarInfo(member)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"abcd"))
    yield "load: a tar", partial(checkpoint.load, folder / "t.pth", network)
    os.mkfifo(folder / "fifo.pth")
    yield "load: a pipe", partial(checkpoint.load, folder / "fifo.pth", network)
    yield "load: a device", partial(checkpoint.load, Path("/dev/zero"), network)
    for name, data in SAFETENSORS.items():
        yield f"safetensors: {name}", partial(checkpoint.load, file("s.safetensors", data), network)
    for name, data in ONNX.items():
        path = file("n.onnx", data)
        yield f"describe ONNX: {name}", partial(read_description, path)
        yield f"load ONNX: {name}", partial(from_onnx, path, contract, 19)
    for name, data in LABELS.items():
        yield f"labels: {name}", partial(read_frames, file(f"l{name}", data), folder)
    for name, data in JOINTS.items():
        yield f"joints: {name}", partial(read_joints, file(f"j{name}", data))


@pytest.fixture(scope="module")
def outcomes(in_sandbox: Callable[..., Outcomes], tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("hostile")
    found = in_sandbox(__file__, folder)
    assert not (folder / "canary").exists()
    return found


def test_each_is_refused_or_read(outcomes: Outcomes) -> None:
    wrong = {
        name: (f"{message:.200}", round(seconds, 1), round(megabytes))
        for name, (message, seconds, megabytes) in outcomes.items()
        if seconds > SECONDS or megabytes > MEGABYTES or _is_fault(message)
    }
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    assert len(outcomes) > 200


def _is_fault(message: str) -> bool:
    """An exception of Python, harm, or more than anybody reads; an error of posert names no class of exceptions."""
    return (
        message.split(" ")[0].endswith(("Error", "Harm", "Exit", "Interrupt"))
        or message.startswith("ended by")
        or len(message) > 3000
    )
