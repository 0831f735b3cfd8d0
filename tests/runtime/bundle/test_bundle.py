"""The bundle: what goes in comes out, and nothing that was damaged, changed or made up gets through."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import pickle
import zipfile
from dataclasses import MISSING, asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posert.runtime.bundle import archive as bundle_module
from posert.runtime.bundle.archive import Artifact, Bundle, Golden, describe, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.bundle.manifest import SCHEMA
from posert.runtime.bundle.members import _Zip
from posert.runtime.cli.commands.inspect import describe as describe_bundle
from posert.runtime.errors import BackendError, BundleError
from posert.runtime.selection import select

CONTRACT = Contract(
    dataset="coco",
    keypoints=("nose", "tail"),
    flip_pairs=((0, 1),),
    skeleton=((0, 1),),
    sigmas=(0.1, 0.2),
    width=24,
    height=32,
    heatmap_width=6,
    heatmap_height=8,
)
ROW = {
    "precision": "fp32",
    "backend": "openvino",
    "accuracy": 0.9,
    "accuracy_drop": 0.0,
    "accuracy_drop_interval": [0.0, 0.0],
    "pixel_drift_median": 0.0,
    "pixel_drift_p95": 0.1,
    "heatmap_error": 1e-6,
    "ms_per_person": 2.0,
    "size_mb": 1.0,
    "verdict": "passed",
    "dark_drift_p95": 0.2,
    "jumps": 0.01,
    "artifact": "fp32",
    "reason": "",
}


def golden() -> Golden:
    rng = np.random.default_rng(0)
    return Golden(rng.integers(0, 256, (2, 32, 24, 3), np.uint8), (rng.random((2, 2, 8, 6), np.float32),))


def tiny_graph(text: str) -> bytes:
    """A graph of one node, with a remark."""
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N"]) for name in ("crops", "heatmaps")]
    node = onnx.helper.make_node("Relu", ["crops"], ["heatmaps"])
    graph = onnx.helper.make_graph([node], "tiny", ends[:1], ends[1:], doc_string=text)
    return bytes(onnx.helper.make_model(graph).SerializeToString())


def write(path: Path, **changes: Any) -> Path:
    """A bundle whose graphs are a few bytes: nothing here compiles them."""
    data = {"fp32": tiny_graph("the fp32 graph" * 20), "int8": tiny_graph("the int8 graph" * 10)}
    graphs = {
        name: (
            Artifact(name, "onnx", f"{name}.onnx", precision=name, opset=19, golden_error=1e-3, **describe(value)),
            value,
        )
        for name, value in data.items()
    }
    arguments: dict[str, Any] = {
        "name": "tiny-coco-32x24",
        "model": {"id": "tiny", "arch": "tiny", "dataset": "coco", "checkpoint": {"source": "random"}},
        "contract": CONTRACT,
        "graphs": graphs,
        "golden": golden(),
        "calibration": {"method": "minmax", "verdict": "int8 costs nothing"},
        "accuracy": {
            "verdict": "passed",
            "data": {"note": "made up", "metric": "AP", "subjects": "people"},
            "rows": [ROW],
            "published": {"AP": 0.7, "AR": 0.8},
        },
        "versions": {"python": "3.11"},
    }
    return write_bundle(path, **{**arguments, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundle") / "tiny.pose")


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forge(path: Path, content: dict[str, bytes], compress: tuple[str, ...] = ()) -> Path:
    """A zip of these members under a right seal, as somebody writes it who has read the code."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if name in compress else zipfile.ZIP_STORED)
        archive.comment = b"posert " + hashlib.sha256(content["manifest.json"]).hexdigest().encode()
    return path


def forge_manifest(path: Path, whole: Path, manifest: Any) -> Path:
    return forge(path, {**members(whole), "manifest.json": json.dumps(manifest).encode()})


def forge_golden(path: Path, whole: Path, data: bytes) -> Path:
    content = members(whole)
    manifest = json.loads(content["manifest.json"])
    manifest["golden"].update(describe(data))
    return forge(path, {**content, "manifest.json": json.dumps(manifest).encode(), "golden.npz": data})


def use(path: Path) -> None:
    """All that the runtime reads of a bundle."""
    with Bundle(path) as bundle:
        bundle.check()
        describe_bundle(bundle)
        with contextlib.suppress(BackendError):  # a bundle may hold nothing that runs here
            select(bundle)


class TestRoundTrip:
    def test_everything_comes_back(self, whole: Path) -> None:
        with Bundle(whole) as bundle:
            bundle.check()
            assert bundle.name == "tiny-coco-32x24"
            assert bundle.contract == CONTRACT
            assert list(bundle.artifacts) == ["fp32", "int8"]
            assert bundle.read(bundle.artifacts["int8"]) == tiny_graph("the int8 graph" * 10)
            assert bundle.artifacts["fp32"].golden_error == 1e-3
            assert bundle.accuracy["rows"] == [ROW]
            found, expected = bundle.golden(), golden()
            np.testing.assert_array_equal(found.crops, expected.crops)
            assert len(found.outputs) == 1
            np.testing.assert_array_equal(found.outputs[0], expected.outputs[0])
            assert bundle.manifest["versions"] == {"python": "3.11"}

    def test_graphs_from_files_give_the_same_bundle(self, tmp_path: Path, whole: Path) -> None:
        graphs: dict[str, Any] = {}
        with Bundle(whole) as bundle:
            for artifact in bundle.artifacts.values():
                file = tmp_path / artifact.file
                file.write_bytes(bundle.read(artifact))
                graphs[artifact.name] = (artifact, file)
        assert write(tmp_path / "tiny.pose", graphs=graphs).read_bytes() == whole.read_bytes()

    def test_the_same_inputs_give_the_same_bytes(
        self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # years later, on a machine with another clock: zip members carry dates
        monkeypatch.setattr("time.time", lambda: 2e9)
        monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
        assert write(tmp_path / "again.pose").read_bytes() == whole.read_bytes()

    def test_members_are_stored_and_nothing_else_is_there(self, whole: Path) -> None:
        with zipfile.ZipFile(whole) as archive:
            assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
            assert sorted(archive.namelist()) == ["fp32.onnx", "golden.npz", "int8.onnx", "manifest.json"]

    def test_members_read_survive_closing(self, whole: Path) -> None:
        with Bundle(whole) as bundle:
            data = bundle.read(bundle.artifacts["fp32"])
        assert hashlib.sha256(data).hexdigest() == bundle.artifacts["fp32"].sha256


class TestWriting:
    @pytest.mark.parametrize("there_before", [False, True])
    def test_a_failed_write_leaves_what_was_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool
    ) -> None:
        path = tmp_path / "b.pose"
        if there_before:
            path.write_bytes(b"before")
        written = 0

        def full_disk(self: zipfile.ZipFile, info: Any, data: bytes) -> None:
            nonlocal written
            written += 1
            if written == 3:
                raise OSError(28, "No space left on device")
            original(self, info, data)

        original = zipfile.ZipFile.writestr
        monkeypatch.setattr(zipfile.ZipFile, "writestr", full_disk)
        with pytest.raises(OSError, match="No space"):
            write(path)
        assert written == 3
        assert [p.name for p in tmp_path.iterdir()] == (["b.pose"] if there_before else [])
        assert not there_before or path.read_bytes() == b"before"

    def test_interrupted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(bundle_module, "seal", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "b.pose")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"graphs": {}},
            {"accuracy": {"verdict": "passed", "rows": [{**ROW, "accuracy": float("nan")}]}},
            {"accuracy": {"verdict": "passed"}},
            {"model": {"arch": None, "dataset": "coco"}},
        ],
        ids=["no graph", "NaN", "no rows", "no architecture"],
    )
    def test_what_could_not_be_read_back_is_not_written(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        with pytest.raises(ValueError):
            write(tmp_path / "b.pose", **changes)
        assert list(tmp_path.iterdir()) == []


class TestDamage:
    def test_cut_anywhere(self, whole: Path, tmp_path: Path) -> None:
        data, path = whole.read_bytes(), tmp_path / "cut.pose"
        for size in [0, 1, 3, 21, 22, 64, *range(100, len(data), 511), len(data) - 1]:
            path.write_bytes(data[:size])
            with pytest.raises(BundleError, match="rebuild"):
                use(path)

    @pytest.mark.parametrize("member", ["manifest.json", "fp32.onnx", "int8.onnx", "golden.npz"])
    def test_one_flipped_bit_in_a_member(self, whole: Path, tmp_path: Path, member: str) -> None:
        data, content, path = bytearray(whole.read_bytes()), members(whole)[member], tmp_path / "flipped.pose"
        start = bytes(data).index(content)
        data[start + len(content) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(BundleError, match=member):
            use(path)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(place=st.integers(0, 1 << 20), value=st.integers(1, 255), tail=st.booleans())
    def test_any_changed_byte_is_found_or_harmless(
        self, whole: Path, tmp_path: Path, place: int, value: int, tail: bool
    ) -> None:
        """Zip headers too: a date may change, but then every member is what it was."""
        data, path = bytearray(whole.read_bytes()), tmp_path / "changed.pose"
        directory = 700  # bytes at the end: the zip's central directory, its end record and comment
        at = len(data) - 1 - place % (directory if tail else len(data))
        data[at] ^= value
        path.write_bytes(data)
        try:
            use(path)
        except BundleError:
            return
        assert members(path) == members(whole)

    def test_no_file_says_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="posert build --output"):
            Bundle(tmp_path / "none.pose")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError):
            Bundle(tmp_path)

    @pytest.mark.parametrize(
        "data", [b"", b"PK\x03\x04", b"\x00" * 4096, b"<html>404</html>", b"PK\x05\x06" + b"\0" * 18]
    )
    def test_foreign_files(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "foreign.pose"
        path.write_bytes(data)
        with pytest.raises(BundleError):
            Bundle(path)

    def test_a_foreign_zip(self, tmp_path: Path) -> None:
        path = tmp_path / "foreign.pose"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("word/document.xml", "<w/>")
        with pytest.raises(BundleError, match="no manifest.json in it, so it is no pose bundle"):
            Bundle(path)

    def test_an_unreadable_bundle_leaves_no_open_file(self, whole: Path, tmp_path: Path) -> None:
        import gc
        import warnings

        path = forge_manifest(tmp_path / "bad.pose", whole, [])
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            with pytest.raises(BundleError) as caught:
                Bundle(path)
            del caught
            gc.collect()


class TestTampering:
    def test_a_changed_manifest_without_a_new_seal(self, whole: Path, tmp_path: Path) -> None:
        content, path = members(whole), tmp_path / "changed.pose"
        with zipfile.ZipFile(whole) as archive:
            seal = archive.comment
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data.replace(b'"passed"', b'"failed"'))
            archive.comment = seal
        with pytest.raises(BundleError, match="manifest.json was changed"):
            Bundle(path)

    def test_an_exchanged_graph(self, whole: Path, tmp_path: Path) -> None:
        path = forge(tmp_path / "b.pose", {**members(whole), "int8.onnx": b"the int9 graph" * 10})
        with Bundle(path) as bundle:
            assert bundle.read(bundle.artifacts["fp32"])
            with pytest.raises(BundleError, match="int8.onnx is not the file"):
                bundle.read(bundle.artifacts["int8"])

    @pytest.mark.parametrize("member", ["manifest.json", "fp32.onnx", "golden.npz"])
    def test_a_compressed_member(self, whole: Path, tmp_path: Path, member: str) -> None:
        with pytest.raises(BundleError, match=f"{member} is compressed"):
            use(forge(tmp_path / "b.pose", members(whole), compress=(member,)))

    def test_a_member_larger_than_any_network(self, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bundle_module, "MAX_MEMBER", 100)
        with pytest.raises(BundleError, match="too large"):
            use(whole)

    def test_an_oversized_record(self, whole: Path, tmp_path: Path) -> None:
        """The central directory claims 4 GB for a member of a few bytes: refused before anything is read."""
        data = bytearray(whole.read_bytes())
        entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"manifest.json"))
        data[entry + 20 : entry + 28] = b"\xf0\xff\xff\xff" * 2  # compressed and real size
        path = tmp_path / "b.pose"
        path.write_bytes(data)
        with pytest.raises(BundleError, match="manifest.json is compressed or too large"):
            Bundle(path)

    @pytest.mark.parametrize("name", ["../../evil.onnx", "/etc/passwd", "notes.txt", "a\\..\\b", "C:evil"])
    def test_members_that_the_manifest_does_not_list(self, whole: Path, tmp_path: Path, name: str) -> None:
        with pytest.raises(BundleError, match="not in the manifest"):
            Bundle(forge(tmp_path / "b.pose", {**members(whole), name: b"?"}))

    @pytest.mark.parametrize(
        "name",
        ["../fp32.onnx", "/fp32.onnx", "a/b.onnx", "..", ".hidden", "golden.npz", "manifest.json", "x" * 300],
    )
    def test_artifacts_that_point_elsewhere(self, whole: Path, tmp_path: Path, name: str) -> None:
        content = members(whole)
        manifest = json.loads(content["manifest.json"])
        manifest["artifacts"][0]["file"] = name
        content[name] = content.get(name, content.pop("fp32.onnx"))
        content["manifest.json"] = json.dumps(manifest).encode()
        with pytest.raises(BundleError):
            Bundle(forge(tmp_path / "b.pose", content))

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    @pytest.mark.parametrize("member", ["manifest.json", "fp32.onnx", "golden.npz"])
    def test_a_member_that_is_there_twice(self, whole: Path, tmp_path: Path, member: str) -> None:
        path, content = tmp_path / "b.pose", members(whole)
        path.write_bytes(whole.read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(member, content[member])
        with pytest.raises(BundleError, match="there twice"):
            Bundle(path)

    @pytest.mark.parametrize("member", ["manifest.json", "fp32.onnx", "int8.onnx", "golden.npz"])
    def test_a_missing_member(self, whole: Path, tmp_path: Path, member: str) -> None:
        content, path = members(whole), tmp_path / "b.pose"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                if name != member:
                    archive.writestr(name, data)
            archive.comment = b"posert " + hashlib.sha256(content["manifest.json"]).hexdigest().encode()
        with pytest.raises(BundleError, match=member):
            Bundle(path)

    @pytest.mark.parametrize("schema", [0, -1, "1", None, True, 1.0, [1]])
    def test_no_schema(self, whole: Path, tmp_path: Path, schema: object) -> None:
        manifest = json.loads(members(whole)["manifest.json"])
        with pytest.raises(BundleError, match="schema"):
            Bundle(forge_manifest(tmp_path / "b.pose", whole, {**manifest, "schema": schema}))

    @pytest.mark.parametrize(
        "text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1, "name": NaN}', b"1" * 10_000, b"null"]
    )
    def test_a_manifest_that_is_no_json_object(self, whole: Path, tmp_path: Path, text: bytes) -> None:
        with pytest.raises(BundleError, match="manifest.json is not usable"):
            Bundle(forge(tmp_path / "b.pose", {**members(whole), "manifest.json": text}))


class TestVersions:
    """The promise of bundle/__init__.py."""

    @pytest.mark.parametrize(
        ("requires", "line"),
        [
            ("0.9", 'pip install --upgrade "posert>=0.9"'),
            ("1.12.3", 'pip install --upgrade "posert>=1.12.3"'),
            ("0.9; rm -rf /", 'pip install --upgrade "posert"'),
            (None, 'pip install --upgrade "posert"'),
        ],
    )
    @pytest.mark.parametrize("sealed", [True, False])
    def test_a_newer_schema_says_what_to_install(
        self, whole: Path, tmp_path: Path, requires: str | None, line: str, sealed: bool
    ) -> None:
        manifest = {**json.loads(members(whole)["manifest.json"]), "schema": SCHEMA + 1, "requires": requires}
        path = forge_manifest(tmp_path / "b.pose", whole, manifest)
        if not sealed:  # a newer posert may seal in another way
            with zipfile.ZipFile(path, "a") as archive:
                archive.comment = b"another seal"
        with pytest.raises(BundleError) as caught:
            Bundle(path)
        reads = f"manifest.json has schema {SCHEMA + 1}, this posert reads up to {SCHEMA}: {line}"
        assert str(caught.value) == f"{path}: {reads}"

    def test_this_version_can_read_what_it_writes(self, whole: Path) -> None:
        manifest = json.loads(members(whole)["manifest.json"])
        required = tuple(map(int, manifest["requires"].split(".")))
        assert manifest["schema"] == SCHEMA
        assert required <= tuple(map(int, version("posert").split(".")[:3]))

    def test_fields_that_an_older_bundle_lacks_take_their_defaults(self, whole: Path, tmp_path: Path) -> None:
        manifest = json.loads(members(whole)["manifest.json"])
        for name in ("calibration", "versions", "requires"):
            del manifest[name]
        optional = {f.name: f for f in fields(Artifact) if f.default is not MISSING or f.default_factory is not MISSING}
        for record in manifest["artifacts"]:
            for name in optional:
                del record[name]
        for name in ("mean", "std", "model_color", "color", "enlarge", "padding", "udp", "decode", "kernel"):
            del manifest["contract"][name]
        with Bundle(forge_manifest(tmp_path / "b.pose", whole, manifest)) as bundle:
            bundle.check()
            describe_bundle(bundle)
            assert bundle.contract == CONTRACT
            assert bundle.manifest["calibration"] is None and bundle.manifest["versions"] == {}
            for artifact in bundle.artifacts.values():
                assert (artifact.opset, artifact.float_nodes, artifact.golden_error) == (None, {}, None)

    def test_fields_that_only_inform_are_ignored(self, whole: Path, tmp_path: Path) -> None:
        manifest = json.loads(members(whole)["manifest.json"])
        manifest["card"] = {"licence": "CC"}
        manifest["artifacts"][0]["compressed_from"] = 7
        manifest["golden"]["drawn_by"] = "seed 3"
        with Bundle(forge_manifest(tmp_path / "b.pose", whole, manifest)) as bundle:
            bundle.check()
            assert bundle.read(bundle.artifacts["fp32"]) == tiny_graph("the fp32 graph" * 20)

    def test_several_outputs_come_back(self, tmp_path: Path) -> None:
        one = golden()
        three = Golden(one.crops, (one.outputs[0], one.outputs[0][:, :, 0], one.outputs[0] * 2))
        path = write(tmp_path / "b.pose", golden=three)
        with np.load(io.BytesIO(members(path)["golden.npz"])) as arrays:
            assert arrays.files == ["crops", "heatmaps", "output_1", "output_2"]
        with Bundle(path) as bundle:
            for seen, expected in zip(bundle.golden().outputs, three.outputs, strict=True):
                np.testing.assert_array_equal(seen, expected)


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class TestGolden:
    def test_pickles_are_not_opened(self, whole: Path, tmp_path: Path) -> None:
        trap = tmp_path / "trap"
        crops = np.empty(2, object)
        crops[:] = [Canary(trap), Canary(trap)]
        for data in (npz(crops=crops, heatmaps=golden().outputs[0]), pickle.dumps(Canary(trap))):
            path = forge_golden(tmp_path / "b.pose", whole, data)
            with Bundle(path) as bundle, pytest.raises(BundleError, match="golden.npz cannot be read"):
                bundle.golden()
        assert not trap.exists()

    def test_a_compressed_array(self, whole: Path, tmp_path: Path) -> None:
        """A few kB could unfold to all of the memory."""
        stream = io.BytesIO()
        np.savez_compressed(stream, crops=golden().crops, heatmaps=golden().outputs[0])
        path = forge_golden(tmp_path / "b.pose", whole, stream.getvalue())
        with Bundle(path) as bundle, pytest.raises(BundleError, match="compressed"):
            bundle.golden()

    def test_an_array_that_claims_terabytes(self, whole: Path, tmp_path: Path) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 42,)})
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("crops.npy", header.getvalue())
            archive.writestr("heatmaps.npy", header.getvalue())
        path = forge_golden(tmp_path / "b.pose", whole, stream.getvalue())
        with Bundle(path) as bundle, pytest.raises(BundleError, match="golden.npz"):
            bundle.golden()

    def test_a_member_that_is_no_array(self, whole: Path, tmp_path: Path) -> None:
        """numpy gives the bytes of a member that does not begin as an .npy file does."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("crops.npy", pickle.dumps([1]))
            archive.writestr("heatmaps.npy", b"x")
        path = forge_golden(tmp_path / "b.pose", whole, stream.getvalue())
        with Bundle(path) as bundle, pytest.raises(BundleError, match="golden.npz cannot be read"):
            bundle.golden()

    def test_what_does_not_fit_the_contract(self, whole: Path, tmp_path: Path) -> None:
        crops, heatmaps = golden().crops, golden().outputs[0]
        holed = heatmaps.copy()
        holed[0, 0, 0, 0] = np.nan
        single = io.BytesIO()
        np.save(single, crops)
        for data in (
            npz(crops=crops[:, :-1], heatmaps=heatmaps),
            npz(crops=crops.astype(np.float32), heatmaps=heatmaps),
            npz(crops=crops[:1], heatmaps=heatmaps),
            npz(crops=crops[:0], heatmaps=heatmaps[:0]),
            npz(crops=np.uint8(1), heatmaps=heatmaps),
            npz(crops=crops, heatmaps=heatmaps[:1]),
            npz(crops=crops, heatmaps=np.float32(1)),
            npz(crops=crops, heatmaps=heatmaps.astype(np.float64)),
            npz(crops=crops, heatmaps=heatmaps.astype(str)),
            npz(crops=crops, heatmaps=holed),
            npz(crops=crops),
            npz(crops=crops, heatmaps=heatmaps, more=heatmaps),
            npz(crops=crops, heatmaps=heatmaps, output_2=heatmaps),
            npz(crops=crops, output_1=heatmaps),
            single.getvalue(),
            b"",
        ):
            path = forge_golden(tmp_path / "b.pose", whole, data)
            with Bundle(path) as bundle, pytest.raises(BundleError, match="golden"):
                bundle.golden()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON document."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1 << 70, 10**400, 4097]),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["fp32", "onnx", "../x", "\x00", "passed"]),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)),
)


class TestHostileManifest:
    """The seal is right, and anything at all may stand in the manifest."""

    @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_value_of_any_type_anywhere(self, whole: Path, tmp_path: Path, data: st.DataObject) -> None:
        manifest = json.loads(members(whole)["manifest.json"])
        for _ in range(data.draw(st.integers(1, 3))):
            *parents, last = data.draw(st.sampled_from(places(manifest)[1:]))
            holder = manifest
            for key in parents:
                holder = holder[key]
            if isinstance(holder, dict) and data.draw(st.booleans()):
                del holder[last]
            else:
                holder[last] = data.draw(HOSTILE)
        with contextlib.suppress(BundleError):  # any other exception is a fault
            use(forge_manifest(tmp_path / "b.pose", whole, manifest))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("contract", "keypoints"), "no"),
            (("contract", "kernel"), 11.0),
            (("contract", "kernel"), 4),
            (("contract", "width"), True),
            (("contract", "width"), 5000),
            (("contract", "mean"), ["0", "0", "0"]),
            (("contract", "std"), [0, 1, 1]),
            (("contract", "sigmas"), [0.1, float("inf")]),
            (("contract", "sigmas"), [0.1]),
            (("contract", "padding"), 0),
            (("contract", "udp"), "no"),
            (("contract", "decode"), 1),
            (("contract", "more"), 1),
            (("contract", "flip_pairs"), [[0, 2]]),
            (("contract", "skeleton"), [[0]]),
            (("contract", "color"), "RGB"),
            (("contract", "dataset"), {}),
            (("artifacts",), []),
            (("artifacts",), {}),
            (("artifacts", 0, "name"), ["fp32"]),
            (("artifacts", 0, "name"), "int8"),
            (("artifacts", 0, "file"), "int8.onnx"),
            (("artifacts", 0, "bytes"), "280"),
            (("artifacts", 0, "format"), "pickle"),
            (("artifacts", 0, "precision"), "fp64"),
            (("artifacts", 0, "golden_error"), -1.0),
            (("artifacts", 0, "float_nodes"), ["a"]),
            (("golden", "bytes"), None),
            (("golden", "sha256"), 5),
            (("accuracy", "rows"), 5),
            (("accuracy", "rows"), ["passed"]),
            (("accuracy", "rows", 0, "verdict"), ["passed"]),
            (("accuracy", "rows", 0, "accuracy"), "0.9"),
            (("accuracy", "data"), "note"),
            (("model", "checkpoint"), "none"),
            (("versions",), ["python"]),
            (("name",), None),
        ],
    )
    def test_is_refused_by_name(self, whole: Path, tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
        manifest = copy.deepcopy(json.loads(members(whole)["manifest.json"]))
        holder = manifest
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        named = next(p for p in reversed(path) if isinstance(p, str))
        with pytest.raises(BundleError, match=f"(?i){named.rstrip('s')}|artifact|no graph|sizes|JSON"):
            Bundle(forge_manifest(tmp_path / "b.pose", whole, manifest))


def test_an_artifact_record_is_what_the_manifest_holds(whole: Path) -> None:
    record = json.loads(members(whole)["manifest.json"])["artifacts"][0]
    assert asdict(Artifact(**record)) == record


def test_a_zip_whose_making_was_interrupted_can_be_closed() -> None:
    """Python closes it, and printed a traceback where a signal came before its first line."""
    _Zip.__new__(_Zip).close()
