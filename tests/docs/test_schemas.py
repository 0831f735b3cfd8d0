"""The JSON Schemas of docs/reference accept what posert writes, and refuse what posert refuses."""

from __future__ import annotations

import base64
import copy
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from posert.docs.generators import schemas
from posert.runtime import compilation
from posert.runtime.backends import BACKENDS
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.bundle.manifest import check_manifest, parse_artifacts
from posert.runtime.engines.builder import Options
from posert.runtime.engines.sidecar import Engine, EngineMetadata, read_engine, sidecar_of, write_engine
from posert.runtime.errors import BackendError, BundleError

ROOT = Path(__file__).parents[2]
BUNDLE = Draft202012Validator(schemas.bundle_schema())
ENGINE = Draft202012Validator(schemas.engine_schema())

# In place of each value of a manifest or sidecar. 1.0 is not among them: an integer for JSON Schema, none for posert.
SPOILED = (None, -1, 0, 7, 4097, 0.5, -0.5, True, "", "x", "a/b", [], [1], [[0, 1]], [[0, -1]], ["x"], {}, {"x": 1})
# Where posert compares several values, which no schema can: indices with the number of joints, names with each other.
SEVERAL = re.compile(r"contract\.(flip_pairs|skeleton|sigmas|keypoints)|artifacts\.\d+\.(file|name)")


def manifest_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return dict(json.loads(archive.read("manifest.json")))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value inside; of a list the first two items stand for all."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(record: dict[str, Any], path: tuple[Any, ...], *value: Any) -> dict[str, Any]:
    """A copy with another value there, or without that field."""
    new = copy.deepcopy(record)
    parent: Any = new
    for key in path[:-1]:
        parent = parent[key]
    if value:
        parent[path[-1]] = value[0]
    else:
        del parent[path[-1]]
    return new


def spoiled(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in places(record):
        name = ".".join(map(str, path))
        yield f"{name} removed", changed(record, path)
        for value in SPOILED:
            yield f"{name} = {value!r}", changed(record, path, value)


def manifest_is_read(record: dict[str, Any]) -> bool:
    try:
        checked = check_manifest(copy.deepcopy(record))
        Contract.from_json(checked["contract"])
        parse_artifacts(checked)
    except (ValueError, BundleError):
        return False
    return True


@pytest.mark.parametrize("name", schemas.FILES)
def test_the_files_are_what_the_code_says(name: str) -> None:
    """After a change: python -m posert.docs.generators.schemas"""
    schema = schemas.FILES[name]()
    assert (schemas.FOLDER / name).read_text(encoding="utf-8") == schemas.text(schema)
    Draft202012Validator.check_schema(schema)


@pytest.fixture(params=["narrow_bundle", pytest.param("demo_bundle", marks=pytest.mark.slow)])
def bundle(request: pytest.FixtureRequest) -> Path:
    """A bundle that was not judged, and one that was: `posert build` made it."""
    return Path(request.getfixturevalue(request.param))


def faults(path: Path) -> list[str]:
    return [f"{path.name}: {error.json_path} {error.message}" for error in BUNDLE.iter_errors(manifest_of(path))]


def test_a_bundle_validates(bundle: Path) -> None:
    assert faults(bundle) == []


def test_kept_bundles_validate() -> None:
    kept = sorted((ROOT / "tests" / "goldens" / "bundles").glob("*.pose"))
    assert kept and not [fault for path in kept for fault in faults(path)]


def test_it_refuses_what_posert_refuses(bundle: Path) -> None:
    record = manifest_of(bundle)
    assert record["accuracy"]["rows"] or "narrow" in bundle.name
    del record["calibration"], record["accuracy"]["rows"][3:]  # the same again
    assert manifest_is_read(record)
    wrong, refused = [], 0
    for what, other in spoiled(record):
        read, valid = manifest_is_read(other), BUNDLE.is_valid(other)
        refused += not read
        # Stricter than this reader: that such a hash, size or name is wrong is found when the member is read.
        found_later = re.match(r"(artifacts\.\d+|golden)\.(sha256|bytes|file) ", what)
        if read != valid and not (valid and SEVERAL.match(what)) and not (read and found_later):
            wrong.append(f"{what}: read {read}, valid {valid}")
    assert not wrong
    assert refused > 1000


def test_fields_and_defaults_of_a_contract() -> None:
    schema = schemas.contract_schema()
    least = {name: part["default"] for name, part in schema["properties"].items() if "default" in part}
    joints = {"dataset": "mouse", "keypoints": ["nose", "tail"], "flip_pairs": [], "skeleton": [], "sigmas": []}
    sizes = {"width": 64, "height": 64, "heatmap_width": 16, "heatmap_height": 16}
    assert Contract.from_json({**joints, **sizes}) == Contract.from_json({**least, **joints, **sizes})
    assert set(schema["required"]) == {*joints, *sizes}
    assert all("description" in part for part in schema["properties"].values())


@pytest.fixture(scope="module")
def engines(narrow_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An engine of the cache, and one with what it has from its bundle."""
    folder = tmp_path_factory.mktemp("engines")
    devices, batch = ("sm86", "sm89"), ((1, 1, 1), (1, 4, 8))
    layers = {"CONVOLUTION HALF": 3}
    told = EngineMetadata("ab" * 32, "fp16", "tensorrt_rtx", "1.7", devices, batch, Options().recorded(), layers)
    with Bundle(narrow_bundle) as bundle:
        origin = compilation.origin_of(bundle, BACKENDS.load("tensorrt_rtx"), "fp32")
    made = [folder / "cached.engine", folder / "exported.engine"]
    for path, has in zip(made, (None, origin), strict=True):
        write_engine(path, Engine(told, b"plan", has))
    return made


def test_sidecars_validate(engines: list[Path]) -> None:
    for path in engines:
        record = json.loads(sidecar_of(path).read_text())
        assert not [f"{error.json_path} {error.message}" for error in ENGINE.iter_errors(record)]
    assert base64.b64decode(record["golden"])


@pytest.mark.parametrize("index", [0, 1], ids=["of the cache", "exported"])
def test_it_refuses_sidecars_that_posert_refuses(index: int, engines: list[Path], tmp_path: Path) -> None:
    record = json.loads(sidecar_of(engines[index]).read_text())
    path = tmp_path / "net.engine"
    path.write_bytes(b"plan")
    assert sidecar_is_read(path, record)
    wrong = []
    for what, other in spoiled(record):
        if re.match(r"contract\.\w+\.", what):
            continue  # as in bundles
        read, valid = sidecar_is_read(path, other), ENGINE.is_valid(other)
        # What is compared with the plan and the golden crops.
        compared = SEVERAL.match(what) or re.match(r"golden |plan\.(sha256|bytes) |contract\.(width|height) ", what)
        if read != valid and not (valid and compared):
            wrong.append(f"{what}: read {read}, valid {valid}")
    assert not wrong


def sidecar_is_read(path: Path, record: dict[str, Any]) -> bool:
    sidecar_of(path).write_text(json.dumps(record))
    try:
        read_engine(path)
    except (BackendError, BundleError):
        return False
    return True
