"""Contracts, configs, sidecars, signatures, keys, calibration caches, journals and detectors, changed and damaged."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from posert.calib.cache import read_cache
from posert.runtime.bundle.archive import Bundle, Golden
from posert.runtime.bundle.signature import SecretKey, sign
from posert.runtime.detection.detector import Detector
from posert.runtime.engines.engine_file import EngineFile
from posert.runtime.engines.sidecar import Engine, EngineMetadata, Origin, sidecar_of, write_engine
from posert.runtime.system.journal import Journal
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.command import posert
from posert.tests.campaign.mutate import NUMBERS, TEXTS, change_bytes, change_json, json_text, pick

_GOLDENS = Path(__file__).parents[2] / "goldens"
_RECORDS = [[0, [1.5, 0.1]], {"a": None}, "text\nof two lines", 7, {"b": [1] * 50}]
_CACHE = {
    "calibration_cache": 2,
    "model": "small",
    "graph": "ab" * 32,
    "method": "minmax",
    "crops": 3,
    "sets": [
        {
            "sha256": "cd" * 32,
            "data": "x",
            "kind": "labelled",
            "people": 3,
            "images": 2,
            "strata": {"near": 3},
            "files": {"a.png": {"sha256": "ef" * 32, "people": ["0" * 32]}},
        }
    ],
    "curve": [[1, 0.5], [3, 0.1]],
    "settled": True,
    "ranges": {"r1": {"lo": -1.0, "hi": 2.0}},
    "observers": {"r1": {"lo": -1.0, "hi": 2.0}},
}


def _detector() -> bytes:
    """The form of ultralytics' graphs: boxes and scores of 21 cells of a 32x32 picture."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(0, 0.1, (6, 3, 8, 8)).astype(np.float32), "shape": np.array([1, 6, -1], np.int64)}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], strides=[8, 8]),
        helper.make_node("AveragePool", ["c"], ["c2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("AveragePool", ["c"], ["c4"], kernel_shape=[4, 4], strides=[4, 4]),
        *(helper.make_node("Reshape", [name, "shape"], [f"{name}.flat"]) for name in ("c", "c2", "c4")),
        helper.make_node("Concat", ["c.flat", "c2.flat", "c4.flat"], ["cells"], axis=2),
        helper.make_node("Sigmoid", ["cells"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 21])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'person', 1: 'car'}", "task": "detect", "stride": "8"})
    return model.SerializeToString()


def _text(case: Case, text: str) -> bytes:
    """A text with other words in it."""
    rng, lines = case.rng, text.splitlines(keepends=True)
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        at = int(rng.integers(len(lines)))
        way = str(rng.choice(["word", "word", "number", "remove", "double", "swap", "deep", "bytes"]))
        case.done.append(f"{way} {lines[at].strip()[:50]}")
        words = lines[at].split(" ")
        if way in ("word", "number"):
            new = pick(rng, TEXTS) if way == "word" else str(pick(rng, NUMBERS))
            words[int(rng.integers(len(words)))] = new
            lines[at] = " ".join(words) + ("" if lines[at].endswith("\n") and words[-1].endswith("\n") else "\n")
        elif way == "remove":
            del lines[at]
        elif way == "double":
            lines.insert(int(rng.integers(len(lines))), lines[at])
        elif way == "swap":
            other = int(rng.integers(len(lines)))
            lines[at], lines[other] = lines[other], lines[at]
        elif way == "deep":
            marks = pick(rng, ("[]", "()", "{}"))
            lines[at] = f"x = {marks[0] * 3000}{marks[1] * 3000}\n"
        lines = lines or ["\n"]
    data = "".join(lines).encode("utf-8", "surrogatepass")
    return change_bytes(rng, data, case.done) if rng.random() < 0.3 else data


class _Uses:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = material.bundle(folder)
        with Bundle(self.bundle) as bundle:
            contract, artifact, golden = bundle.contract, bundle.artifacts["fp32"], bundle.golden()
        self.contract = json.loads(json.dumps(asdict(contract)))
        with zipfile.ZipFile(_GOLDENS / "configs" / "configs.zip") as archive:
            self.configs = {name: archive.read(name).decode() for name in archive.namelist() if "/_base_/" not in name}
            archive.extractall(folder / "configs")
        self.secret = SecretKey.new()
        self.key = folder / "owner"
        self.secret.write(self.key)
        self.public = self.key.with_name("owner.pub")
        signed = folder / "signed.pose"
        signed.write_bytes(self.bundle.read_bytes())
        self.signature = sign(signed, self.secret).read_bytes()
        engine = folder / "net.engine"
        metadata = EngineMetadata(
            "ab" * 32, "fp16", "tensorrt_rtx", "1.7.1.116", ("sm86",), ((1, 4, 8),), {"a": 1}, {"CONVOLUTION HALF": 3}
        )
        origin = Origin(
            "small",
            {"arch": "small", "dataset": "coco"},
            contract,
            artifact,
            {"verdict": "unproven", "rows": []},
            Golden(golden.crops[:1], tuple(o[:1] for o in golden.outputs)),
        )
        write_engine(engine, Engine(metadata, b"ftrt" + bytes(range(256)), origin))
        self.plan, self.sidecar = engine.read_bytes(), sidecar_of(engine).read_bytes()
        self.detector = _detector()
        Detector(self.detector, backend="onnxruntime")(material.frame())

    def contract_file(self, case: Case) -> str:
        value = change_json(case.rng, self.contract, case.done)
        if case.rng.random() < 0.5:
            path = case.write("contract.json", json_text(case.rng, value, case.done))
        else:
            text = (
                yaml.safe_dump(self.contract, sort_keys=False)
                if case.rng.random() < 0.5
                else json.dumps(value, indent=1)
            )
            more = pick(
                case.rng, ("", "", "!!python/object/apply:os.system ['id']\n", "a: &a [x]\nb: [*a, *a]\n", "? {}\n")
            )
            path = case.write("contract.yaml", more.encode() + _text(case, text))
        posert("contract", path)
        return "described"

    def config(self, case: Case) -> str:
        name = pick(case.rng, sorted(self.configs))
        case.done.append(name.rsplit("/", 1)[-1])
        path = case.write(f"case.{name.rsplit('.', 1)[-1]}", _text(case, self.configs[name]))
        case.named += ("_base_", str(self.folder))  # a base may be what is wrong with it
        posert("contract", path, "--config-root", self.folder / "configs" / name.split("/")[0])
        return "described"

    def engine(self, case: Case) -> str:
        plan, sidecar = self.plan, self.sidecar
        if case.rng.random() < 0.2:
            plan = change_bytes(case.rng, plan, case.done)
        else:
            value = json.loads(sidecar)
            if case.rng.random() < 0.5:
                value = change_json(case.rng, value, case.done)
            else:
                key = pick(case.rng, list(value))
                changed = change_json(case.rng, {key: value[key]}, case.done)
                value = {**value, **changed} if isinstance(changed, dict) else changed
            sidecar = json_text(case.rng, value, case.done)
        path = case.write("case.engine", plan)
        sidecar_of(path).write_bytes(sidecar)
        if case.rng.random() < 0.5:
            posert("inspect", path)
            return "inspected"
        with EngineFile(path) as engine:
            engine.check()
        if plan != self.plan and hashlib.sha256(plan).digest() != hashlib.sha256(self.plan).digest():
            raise Defect("another plan in silence")
        return "read"

    def signed(self, case: Case) -> str:
        """A signed bundle, its signature or the key, of which one was changed."""
        rng, way = case.rng, pick(case.rng, ("bundle", "signature", "signature", "key", "secret"))
        case.done.append(way)
        data, signature, key = self.bundle.read_bytes(), self.signature, self.public.read_bytes()
        if way == "secret":
            secret = case.write("secret", _text(case, self.key.read_text()))
            case.write("case.pose", data)
            posert("sign", case.folder / "case.pose", "--key", secret)
            return "signed"
        changed = {"bundle": data, "signature": signature, "key": key}
        before = changed[way]
        changed[way] = (
            change_bytes(rng, before, case.done)
            if rng.random() < 0.7 or way == "bundle"
            else _text(case, before.decode())
        )
        path = case.write("case.pose", changed["bundle"])
        case.write("case.pose.minisig", changed["signature"])
        posert("verify", path, "--key", case.write("owner.pub", changed["key"]), "--backend", "onnxruntime")
        # What is not signed may change: the first line of a key or a signature, and its line ends.
        if changed["bundle"] != data:
            raise Defect("a changed bundle verifies")
        return "equal" if changed[way] == before else "a comment changed"

    def cache(self, case: Case) -> str:
        value = change_json(case.rng, _CACHE, case.done)
        read_cache(case.write("ranges.json", json_text(case.rng, value, case.done)))
        return "read"

    def journal(self, case: Case) -> str:
        path = case.folder / "journal"
        with Journal(path, {"k": 1}) as journal:
            for record in _RECORDS:
                journal.add(record)
        path.write_bytes(change_bytes(case.rng, path.read_bytes(), case.done))
        with Journal(path, {"k": 1}) as journal:
            kept = list(journal.records)
            journal.add("more")
        with Journal(path, {"k": 1}) as journal:
            again = journal.records
        once = [one for i, one in enumerate(kept) if i == 0 or one != kept[i - 1]]  # a whole line may be doubled
        if once != _RECORDS[: len(once)] and once[: len(_RECORDS)] != _RECORDS:
            raise Defect("another record in silence", f"{kept}"[:300])
        if again != [*kept, "more"]:
            raise Defect("a record lost", f"{again}"[:300])
        return f"{'all' if kept == _RECORDS else 'some'} records"

    def find(self, case: Case) -> str:
        """A detector's graph."""
        if case.rng.random() < 0.5:
            data = change_bytes(case.rng, self.detector, case.done)
        else:
            model = onnx.load_from_string(self.detector)
            node = pick(case.rng, list(model.graph.node))
            way = str(case.rng.choice(["kind", "self", "opset", "names", "size", "outputs", "huge"]))
            case.done.append(way)
            if way == "kind":
                node.op_type = pick(case.rng, ("Relu", "Log", "Shape", "Loop", "Mine"))
            elif way == "self":
                node.input[0] = node.output[0]
            elif way == "opset":
                model.opset_import[0].version = pick(case.rng, (1, 7, 99, 2**40, -1))
            elif way == "names":
                model.metadata_props[0].value = pick(
                    case.rng, ("{0: 'person'", "[" * 3000, "__import__('os').system('id')", "{1e999: 2}", "{}")
                )
            elif way == "size":
                model.graph.input[0].type.tensor_type.shape.dim[int(case.rng.integers(4))].dim_value = pick(
                    case.rng, (0, 1, 64, 2**31, -1)
                )
            elif way == "outputs":
                del model.graph.output[:]
            else:
                model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([1, 6, 2**40]), "shape"))
            data = model.SerializeToString()
        path = case.write("detector.onnx", data)
        found = Detector(path, backend=pick(case.rng, ("openvino", "onnxruntime")), score=0.1)(material.frame())
        if not (np.isfinite(found.boxes).all() and np.isfinite(found.score).all()):
            raise Defect("boxes that are no numbers", f"{found.boxes[:2].tolist()}")
        return "boxes"


def open_part(folder: Path) -> Run:
    uses = _Uses(folder)
    ways: tuple[Callable[[Case], str], ...] = (
        *(uses.contract_file, uses.contract_file, uses.config, uses.config, uses.engine, uses.engine, uses.signed),
        *(uses.cache, uses.journal, uses.find),
    )

    def run(case: Case) -> str:
        return pick(case.rng, ways)(case)

    return run


PART = Part(
    "files", "contracts, configs, engines' sidecars, signatures, caches, journals, detectors", 4000, 60, open_part
)
