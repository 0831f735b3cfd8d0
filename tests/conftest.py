"""Fixtures that several folders share: a real network, small enough to export in seconds."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch

from posert.export.archs.hrnet import HRNet
from posert.export.graph.reference import Reference, random_crops
from posert.export.graph.to_onnx import to_onnx, with_crops
from posert.export.graph.to_torchscript import to_torchscript
from posert.runtime import registry
from posert.runtime.bundle.archive import Artifact, Golden, describe, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs of tests do not go to the user's cache, nor come from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def narrow_reference() -> Reference:
    """An HRNet for COCO at 128x96 with one block per branch and random weights; its heatmaps are finite noise."""
    coco = dataset("coco")
    contract = Contract(
        dataset="coco",
        keypoints=coco.keypoints,
        flip_pairs=coco.flip_pairs,
        skeleton=coco.skeleton,
        sigmas=coco.sigmas,
        width=96,
        height=128,
        heatmap_width=24,
        heatmap_height=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = HRNet(17, widths=(8, 16, 32, 64), modules=(1, 1, 1), blocks=1, stem=16, bottlenecks=1, planes=8)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # untrained statistics would make folding it a no-op
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
    return Reference(network.eval(), contract)


@pytest.fixture(scope="session")
def narrow_onnx(narrow_reference: Reference) -> onnx.ModelProto:
    """Its plain graph: normalised images in, heatmaps out. Copy it before changing it."""
    return to_onnx(narrow_reference)


@pytest.fixture(scope="session")
def narrow_bundle(
    tmp_path_factory: pytest.TempPathFactory, narrow_reference: Reference, narrow_onnx: onnx.ModelProto
) -> Path:
    """Its bundle: fp32 and TorchScript, accuracy unproven. Copy it before changing it."""
    contract = narrow_reference.contract
    graphs = {}
    folder = tmp_path_factory.mktemp("bundle")
    to_torchscript(narrow_reference, folder / "torchscript.pt")
    for name, form, data in (
        ("fp32", "onnx", with_crops(narrow_onnx, contract).SerializeToString()),
        ("torchscript", "torchscript", (folder / "torchscript.pt").read_bytes()),
    ):
        file = f"{name}.{'onnx' if form == 'onnx' else 'pt'}"
        opset = narrow_onnx.opset_import[0].version if form == "onnx" else None
        graphs[name] = (Artifact(name, form, file, precision="fp32", opset=opset, **describe(data)), data)
    crops = random_crops(contract, 2)
    return write_bundle(
        folder / "narrow.pose",
        name="narrow-coco-128x96",
        model={"arch": "narrow", "dataset": "coco", "weights": "random"},
        contract=contract,
        graphs=graphs,
        golden=Golden(crops, narrow_reference.infer(crops)),
        calibration=None,
        accuracy={"verdict": "unproven", "rows": []},
        versions={},
    )


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install a package with entry points as pip does: its module and its dist-info, in a folder on the path.

    `install_plugin("their-package", source, "posert.backends", toy="their_package:BACKEND")` returns the folder.
    """
    site = tmp_path / "site-packages"
    site.mkdir()
    modules: list[str] = []

    def install(package: str, source: str, group: str, **entries: str) -> Path:
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        modules.append(module)
        registry._entry_points.cache_clear()  # the folder has changed, its path has not
        importlib.invalidate_caches()
        return site

    monkeypatch.syspath_prepend(str(site))
    yield install
    for module in modules:
        sys.modules.pop(module, None)
    registry._entry_points.cache_clear()
