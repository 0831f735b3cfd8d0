"""Whatever lies in a registry's folder keeps that registry's promises: a new file is tested the day it is there."""

from __future__ import annotations

import argparse
import configparser
import enum
import inspect
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from posert.export import catalog
from posert.export.archs import architecture, architectures, build_arch, on_meta
from posert.runtime.backends import BACKENDS, Backend, backends, load_backend
from posert.runtime.bundle.archive import Artifact
from posert.runtime.bundle.contract import Contract
from posert.runtime.bundle.manifest import PRECISIONS
from posert.runtime.cli.command import command_modules, load_command
from posert.runtime.datasets import dataset, datasets
from posert.runtime.errors import BackendError, CatalogError, InputError, PosertError
from posert.runtime.pose.decode import decode
from posert.runtime.pose.heads import HEADS, check_outputs, head


@pytest.mark.parametrize("name", architectures())
class TestArchitectures:
    def test_can_be_built_by_its_name(self, name: str) -> None:
        assert architecture(name).name == catalog.find(name).arch == name

    def test_gives_one_map_per_joint_of_the_size_in_the_contract(self, name: str) -> None:
        row = catalog.find(name)
        contract = row.contract()
        for stages in (None, *range(1, 1 + (architecture(name).stages or 0))):
            network = on_meta(name, 7, stages)
            maps = network(torch.zeros(2, 3, row.height, row.width, device="meta"))
            assert tuple(maps.shape) == (2, 7, contract.heatmap_height, contract.heatmap_width), stages
            assert not network.training


@pytest.mark.parametrize("name", backends())
class TestBackends:
    def test_the_spec(self, name: str) -> None:
        """As far as it can be read without the library."""
        spec = BACKENDS.load(name)
        # int8_gpu: the graph for GPUs, on a CPU that checks it; bf16: the fp32 graph
        assert spec.precisions and set(spec.precisions) <= {*PRECISIONS, "int8_gpu", "bf16"}
        assert set(spec.precisions.values()) <= {*PRECISIONS, "int8_gpu", "torchscript"}
        assert set(spec.notes) <= set(spec.precisions)
        functions = [spec.open, spec.open_throughput] if spec.open_throughput else [spec.open]
        for function in functions:
            parameters = inspect.signature(function).parameters
            assert list(parameters) == ["model", "precision", "threads"] and parameters["threads"].default is None
        assert (inspect.getmodule(spec.open).__doc__ or "").strip()  # type: ignore[union-attr]

    def test_on_this_machine(self, name: str) -> None:
        try:
            spec = load_backend(name)
        except BackendError as error:
            assert "pip install" in str(error)
            pytest.skip(str(error))
        promised(spec)


def promised(spec: Backend) -> None:
    """What holds of a backend whose library is installed, whether this machine can run it or not."""
    assert spec.library_version()[0].isdigit()
    reason = spec.unavailable()
    if reason is None:
        assert spec.runnable() and set(spec.runnable()) | set(spec.unsupported()) == set(spec.precisions)
    else:
        assert len(reason.split()) > 3
        with pytest.raises(BackendError, match=re.escape(reason) if spec.device == "cuda" else ""):
            spec.open(b"no graph", next(iter(spec.precisions)))


@pytest.mark.parametrize(("library", "name"), [("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt_rtx")])
def test_backends_where_tensorrt_is_installed(monkeypatch: pytest.MonkeyPatch, library: str, name: str) -> None:
    """There the registry's test ended by AttributeError: `Session` of these backends was a function."""
    stand_in = ModuleType(library)
    stand_in.__version__ = "10.9.0"  # type: ignore[attr-defined]
    if library == "tensorrt_rtx":
        stand_in.ComputeCapability = enum.IntEnum("ComputeCapability", {"SM86": 86})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, library, stand_in)
    TestBackends().test_the_spec(name)
    spec = load_backend(name)
    assert spec.library_version() == "10.9.0"
    if spec.unavailable() is not None:  # a stand-in can open nothing on a GPU
        promised(spec)


@pytest.mark.parametrize("name", datasets())
def test_datasets(name: str) -> None:
    found = dataset(name)
    k = len(found.keypoints)
    assert found.name == name
    assert len(set(found.keypoints)) == k == len(found.sigmas) and all(s > 0 for s in found.sigmas)
    flat = [joint for pair in found.flip_pairs for joint in pair]
    assert len(set(flat)) == len(flat), "a joint mirrors to one joint"
    assert all(0 <= joint < k for pair in (*found.flip_pairs, *found.skeleton) for joint in pair)
    for a, b in found.flip_pairs:
        left, right = sorted((found.keypoints[a], found.keypoints[b]))
        if "left" in left or "right" in right:  # the points of a face have numbers
            assert left.replace("left", "") == right.replace("right", ""), (left, right)


@pytest.mark.parametrize("name", HEADS.names())
def test_heads(name: str) -> None:
    found = head(name)
    assert found.name == name and found.summary and found.source
    contract = Contract("test", ("nose", "left", "right"), ((1, 2),), (), (0.1,) * 3, 48, 64, 12, 16, decode=name)
    shapes = found.shapes(contract)
    outputs = tuple(np.random.default_rng(0).uniform(0.1, 1, (4, *shape)).astype(np.float32) for shape in shapes)
    before = [output.copy() for output in outputs]
    xy, score = decode(outputs, contract)
    assert xy.shape == (4, 3, 2) and score.shape == (4, 3) and xy.dtype == score.dtype == np.float32
    merged = found.merge(outputs, contract)
    check_outputs(merged, contract)
    assert len(merged[0]) == 2
    for output, unchanged in zip(outputs, before, strict=True):
        np.testing.assert_array_equal(output, unchanged)
    nobody = decode(tuple(output[:0] for output in outputs), contract)
    assert nobody[0].shape == (0, 3, 2) and nobody[1].shape == (0, 3)
    # the size of the map is the contract's, whatever the crop's is
    assert found.shapes(replace(contract, heatmap_width=3)) != shapes
    assert found.shapes(replace(contract, width=96, height=128)) == shapes


@pytest.mark.parametrize("name", command_modules())
def test_commands(name: str) -> None:
    command = load_command(name)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    flags = [option for action in parser._actions for option in action.option_strings]
    assert "--json" not in flags  # the command line adds it to all
    assert all(action.help for action in parser._actions)
    assert command.summary[0].isupper() and command.summary[-1] != "."
    if command.extra:
        config = configparser.ConfigParser()
        config.read(Path(__file__).parents[1] / "setup.cfg")
        assert command.extra in config["options.extras_require"]
    # a former spelling that is in use again could not be told from the present meaning
    assert not set(command.renamed) & set(flags) and set(command.renamed.values()) <= set(flags)


def test_an_option_means_the_same_in_every_command() -> None:
    """The same placeholder, and the same words where it is declared once for all."""
    seen: dict[str, set[tuple[object, ...]]] = {}
    for name in command_modules():
        parser = argparse.ArgumentParser(add_help=False)
        load_command(name).add_arguments(parser)
        for action in parser._actions:
            for option in action.option_strings:
                seen.setdefault(option, set()).add((action.nargs, action.metavar if action.nargs != 0 else None))
    several = {
        "--backend",
        "--precision",
        "--output",
        "--merge",
    }  # one or a list; a file or a folder; of files or into one
    assert {option for option, kinds in seen.items() if len(kinds) > 1} <= several


def test_every_row_of_the_catalog_has_a_contract_and_an_architecture() -> None:
    known = architectures()
    for row in catalog.rows().values():
        contract = row.contract()
        assert type(contract).from_json(contract.to_json()) == contract
        assert row.arch in known, row.id
        assert head(contract.decode).name == row.decode


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda: build_arch("hrnet_w23", 17), CatalogError),
        (lambda: catalog.find("hrnet_w23"), CatalogError),
        (lambda: catalog.row("mm_hrnet_w32_coco_256x129"), CatalogError),
        (lambda: load_backend("openvno"), BackendError),
        (lambda: dataset("cocoo"), (InputError, CatalogError)),
        (lambda: head("unbaised"), CatalogError),
    ],
)
def test_unknown_names_offer_the_nearest(ask: object, error: type[PosertError]) -> None:
    with pytest.raises(error, match=r"(?i)did you mean"):
        ask()  # type: ignore[operator]


def test_artifacts_name_their_precision() -> None:
    assert {"fp32", "fp16", "int8"} == set(PRECISIONS)
    assert "precision" in inspect.signature(Artifact).parameters
