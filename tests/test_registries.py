"""Whatever lies in a registry's folder keeps that registry's promises: a new file is tested the day it is there."""

from __future__ import annotations

import argparse
import configparser
import importlib
import inspect
from pathlib import Path

import pytest
import torch

from posert.export import catalog
from posert.export.archs import archs, build_arch
from posert.runtime.backends import backends, load_backend
from posert.runtime.bundle.archive import Artifact
from posert.runtime.bundle.manifest import PRECISIONS
from posert.runtime.cli.command import command_modules, load_command
from posert.runtime.datasets import dataset, datasets
from posert.runtime.errors import BackendError, CatalogError, InputError, PosertError


@pytest.mark.parametrize("name", archs())
class TestArchitectures:
    def test_has_a_published_row_or_is_the_demo(self, name: str) -> None:
        row = catalog.find(name)
        assert row.arch == name

    def test_gives_one_map_per_joint_at_a_quarter_of_the_size(self, name: str) -> None:
        row = catalog.find(name)
        with torch.device("meta"):
            network = build_arch(name, keypoints=7)
            maps = network(torch.zeros(2, 3, row.height, row.width))
        assert tuple(maps.shape) == (2, 7, row.height // 4, row.width // 4)
        assert not network.training


@pytest.mark.parametrize("name", backends())
def test_backends(name: str) -> None:
    try:
        module = load_backend(name)
    except BackendError as error:
        assert "pip install" in str(error)
        pytest.skip(str(error))
    # int8_gpu: the graph of GPUs, on a CPU that stands in for one while it is judged; bf16: the fp32 graph
    assert module.PRECISIONS and set(module.PRECISIONS) <= {*PRECISIONS, "int8_gpu", "bf16"}
    parameters = inspect.signature(module.Session).parameters
    assert list(parameters)[:3] == ["model", "precision", "threads"] and parameters["threads"].default is None
    assert callable(module.Session.infer)
    assert (importlib.import_module(f"posert.runtime.backends.{name}").__doc__ or "").strip()


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
    several = {"--backend", "--precision", "--output"}  # one or a list; a file or a folder
    assert {option for option, kinds in seen.items() if len(kinds) > 1} <= several


def test_every_row_of_the_catalog_has_a_contract_and_an_architecture() -> None:
    known = archs()
    for row in catalog.rows().values():
        contract = row.contract()
        assert type(contract).from_json(contract.to_json()) == contract
        assert row.arch in known, row.id


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda: build_arch("hrnet_w23", 17), CatalogError),
        (lambda: catalog.find("hrnet_w23"), CatalogError),
        (lambda: catalog.row("mm_hrnet_w32_coco_256x129"), CatalogError),
        (lambda: load_backend("openvno"), BackendError),
        (lambda: dataset("cocoo"), (InputError, CatalogError)),
    ],
)
def test_unknown_names_offer_the_nearest(ask: object, error: type[PosertError]) -> None:
    with pytest.raises(error, match=r"(?i)did you mean"):
        ask()  # type: ignore[operator]


def test_artifacts_name_their_precision() -> None:
    assert {"fp32", "fp16", "int8"} == set(PRECISIONS)
    assert "precision" in inspect.signature(Artifact).parameters
