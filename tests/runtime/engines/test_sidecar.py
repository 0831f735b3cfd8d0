"""Engine files: a plan as the library wrote it, and a sidecar without which it is not loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime import compilation
from posert.runtime.backends import BACKENDS
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main
from posert.runtime.engines import sidecar as module
from posert.runtime.engines.builder import Options
from posert.runtime.engines.engine_file import EngineFile
from posert.runtime.engines.sidecar import Engine, EngineMetadata, Origin, read_engine, sidecar_of, write_engine
from posert.runtime.errors import BackendError

PLAN = b"ftrt" + bytes(range(256))


def metadata(**changes: Any) -> EngineMetadata:
    values: dict[str, Any] = {
        "model": "ab" * 32,
        "precision": "fp16",
        "backend": "tensorrt_rtx",
        "version": "1.7.1.116",
        "devices": ("sm86", "sm89"),
        "batch": ((1, 1, 1), (1, 4, 8)),
        "options": Options().recorded(),
        "layers": {"CONVOLUTION HALF": 3},
    }
    return EngineMetadata(**{**values, **changes})


@pytest.fixture(scope="module")
def origin(narrow_bundle: Path) -> Origin:
    with Bundle(narrow_bundle) as bundle:
        return compilation.origin_of(bundle, BACKENDS.load("tensorrt_rtx"), "fp32")


def same(a: Origin | None, b: Origin | None) -> bool:
    assert a is not None and b is not None
    arrays = [(g.golden.crops, *g.golden.outputs) for g in (a, b)]
    for one, other in zip(*arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    return replace(a, golden=b.golden) == b


def test_the_plan_is_as_the_library_wrote_it(tmp_path: Path, origin: Origin) -> None:
    path = tmp_path / "new" / "net.engine"
    for engine in (Engine(metadata(), PLAN), Engine(metadata(), memoryview(PLAN), origin)):
        write_engine(path, engine)
        assert path.read_bytes() == PLAN
        assert sorted(p.name for p in path.parent.iterdir()) == ["net.engine", "net.engine.json"]
    read = read_engine(path)
    assert read.plan == PLAN and read.metadata == metadata() and same(read.origin, origin)
    head = read_engine(path, whole=False)
    assert head.plan == b"" and head.metadata == metadata() and same(head.origin, origin)


def test_what_other_programs_read(tmp_path: Path, origin: Origin) -> None:
    path = tmp_path / "net.engine"
    write_engine(path, Engine(metadata(), PLAN, origin))
    record = json.loads((tmp_path / "net.engine.json").read_text())
    assert record["plan"] == {"sha256": hashlib.sha256(PLAN).hexdigest(), "bytes": len(PLAN)}
    assert record["engine"]["model"] == "ab" * 32 and record["engine"]["devices"] == ["sm86", "sm89"]
    assert record["contract"]["decode"] == "default" and len(record["contract"]["keypoints"]) == 17
    assert record["accuracy"]["verdict"] == "unproven" and record["name"] == "narrow-coco-128x96"


def lacking(field: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        record = json.loads(sidecar_of(path).read_bytes())
        del record[field]
        sidecar_of(path).write_text(json.dumps(record))

    return damage


def setting(value: Any, *names: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        record = inner = json.loads(sidecar_of(path).read_bytes())
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = value
        sidecar_of(path).write_text(json.dumps(record))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda p: p.write_bytes(PLAN[:-1]), "it is cut short: 259 of 260 bytes are there"),
    "empty": (lambda p: p.write_bytes(b""), "it is cut short: 0 of 260"),
    "longer": (lambda p: p.write_bytes(PLAN + b"x"), "it is not the plan that net.engine.json describes"),
    "changed": (lambda p: p.write_bytes(PLAN[:-1] + b"x"), "its bytes were changed or exchanged"),
    "gone": (lambda p: p.unlink(), "No such file"),
    "old": (lambda p: p.write_bytes(b"posert engine 1\n" + PLAN), "posert 0.2.0 wrote it, with a header that no other"),
    "moved": (lambda p: sidecar_of(p).unlink(), "does not lie beside it; copy both files"),
    "no JSON": (lambda p: sidecar_of(p).write_text("{"), "cannot be read"),
    "no text": (lambda p: sidecar_of(p).write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "deep": (lambda p: sidecar_of(p).write_text("[" * 100_000), "cannot be read"),
    "no object": (lambda p: sidecar_of(p).write_text("[]"), "its schema is None"),
    "newer": (setting(9, "schema"), "its schema is 9, expected 2"),
    "no plan": (lacking("plan"), "lacks ..plan"),
    "no engine": (lacking("engine"), "lacks ..engine"),
    "half an origin": (lacking("golden"), "it lacks ..golden"),
    "batch": (setting([[1, 2]], "engine", "batch"), "expected three numbers"),
    "devices": (setting("sm89", "engine", "devices"), "engine.devices"),
    "size": (setting("many", "plan", "bytes"), "plan.bytes"),
    "contract": (setting(-1, "contract", "width"), "the contract is not usable"),
    "golden": (setting("AAAA", "golden"), "golden.npz cannot be read"),
    "base64": (setting("?", "golden"), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_refused(tmp_path: Path, origin: Origin, damage: str) -> None:
    path = tmp_path / "net.engine"
    write_engine(path, Engine(metadata(), PLAN, origin))
    change, message = DAMAGES[damage]
    change(path)
    with pytest.raises(BackendError, match=f"net.engine is not a usable engine: .*{message}"):
        read_engine(path)
    if damage != "gone":
        with pytest.raises(BackendError, match="rebuild it: posert compile BUNDLE --output DIR"):
            EngineFile(path).check()


@given(data=st.data())
def test_any_changed_byte_of_a_plan_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("plan") / "net.engine"
    write_engine(path, Engine(metadata(), PLAN))
    at, flip = data.draw(st.integers(0, len(PLAN) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(PLAN[:at] + bytes([PLAN[at] ^ flip]) + PLAN[at + 1 :])
    with pytest.raises(BackendError, match="its bytes were changed or exchanged"):
        read_engine(path)


@pytest.mark.parametrize("before", [False, True])
def test_cut_off_between_the_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """A pair that was there before is then no pair any more: the old sidecar is of other bytes."""
    path = tmp_path / "net.engine"
    if before:
        write_engine(path, Engine(metadata(), b"an older plan"))
    real = module.atomic_write

    def dies(target: Path) -> Any:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return real(target)

    monkeypatch.setattr(module, "atomic_write", dies)
    with pytest.raises(KeyboardInterrupt):
        write_engine(path, Engine(metadata(), PLAN))
    with pytest.raises(BackendError, match="is not the plan that" if before else "does not lie beside it"):
        read_engine(path)


def test_names() -> None:
    assert metadata().name_beside("net") == "net.tensorrt_rtx.sm86-sm89.fp16.engine"
    on_gpu = metadata(backend="tensorrt", devices=("NVIDIA A/B c",), architecture="sm89")
    assert on_gpu.name_beside("net") == "net.tensorrt.sm89.fp16.engine"
    # another batch or option is another file of the cache
    assert metadata(batch=((1, 2, 4),)).file_name != metadata().file_name
    assert "/" not in on_gpu.file_name


def test_an_engine_of_the_cache_cannot_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.engine"
    write_engine(path, Engine(metadata(), PLAN))
    with pytest.raises(BackendError, match="is an engine of the cache.*posert compile BUNDLE --backend tensorrt_rtx"):
        EngineFile(path)
    with pytest.raises(BackendError, match="no such file; make one with `posert compile"):
        EngineFile(tmp_path / "none.engine")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_inspect_prints_json_whatever_the_sidecar_is_encoded_in(
    tmp_path: Path, origin: Origin, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.engine"
    write_engine(path, Engine(metadata(), PLAN, origin))
    text = sidecar_of(path).read_text()
    sidecar_of(path).write_text(text, encoding=encoding)
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(text)
