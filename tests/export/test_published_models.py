"""Published models through the whole road: the source's file, the mapping, the exported graph in ONNX Runtime.

One model per family runs by default; `pytest -m all_models` runs the others.
"""

from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from posert.calib.macs import of_graph
from posert.export import catalog
from posert.export.archs import build_arch, on_meta
from posert.export.graph import macs
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import run, to_onnx, with_crops, with_free_size
from posert.export.graph.to_torchscript import to_torchscript
from posert.export.weights import checkpoint
from posert.export.weights import load as weights
from posert.export.weights.load import Provenance
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.commands.inspect import describe
from posert.runtime.cli.main import main
from posert.runtime.errors import CheckpointError

GOLDENS = Path(__file__).parents[1] / "goldens" / "models"
MANIFESTS: dict[str, dict[str, Any]] = json.loads(lzma.decompress((GOLDENS / "manifests.json.xz").read_bytes()))
NAMES = sorted(p.stem for p in GOLDENS.glob("*.npz"))
REPRESENTATIVE = (
    "mm_hrnet_w32_mpii_256x256",
    "hr_pose_resnet_50_coco_256x192",
    "mm_mspn50_coco_256x192",
    "mm_hourglass52_coco_256x256",
    "yx_pose_hourglass_2_coco_256x192",
    "pu_hg2_mpii_256x256",
)

# Rows of the sources' models that are published by none, by how `posert build` is asked for them.
ASKED = {
    "mm_res50_coco_256x192": ("pose_resnet_50", "coco"),
    "mg_mspn_2xstg_coco_256x192": ("mspn_50_2", "coco"),
    "pu_hg2_mpii_256x256": ("hourglass_2", "mpii"),
    "hr_pose_hrnet_w48_mpii_256x256": ("hrnet_w48", "mpii"),
}

# What the sources resize with: nearest by powers of two, but MSPN bilinear with aligned corners.
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
BILINEAR = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}


def row_of(name: str) -> catalog.Row:
    return catalog.find(*ASKED[name]) if name in ASKED else catalog.row(name)


def thorough(names: Iterator[str]) -> list[Any]:
    return [pytest.param(n, marks=() if n in REPRESENTATIVE else pytest.mark.all_models) for n in names]


@pytest.fixture(scope="module", params=thorough(NAMES))
def exported(request, source_file) -> tuple[str, Reference, onnx.ModelProto]:
    """A golden's name, its network with the weights of the source's file, and its plain graph."""
    row = row_of(request.param)
    network = build_arch(row.arch, row.keypoints)
    found = checkpoint.load(source_file(request.param), network)
    network.load_state_dict(found.state_dict)
    reference = Reference(network, row.with_layout(found.layout).contract())
    return request.param, reference, to_onnx(reference)


def test_graph_gives_what_the_source_gave(exported, golden_input, check_golden):
    name, _, model = exported
    check_golden(name, run(model, {"images": golden_input(name).numpy()})[0][0])


def test_graph_holds_what_the_output_needs_and_nothing_else(exported):
    name, reference, model = exported
    expected = MANIFESTS["mm_2xmspn50_coco_256x192" if name.startswith("mg_") else name]["macs_test_path"]
    assert of_graph(model) == expected
    graph = model.graph
    operators = {"Conv", "ConvTranspose", "Relu", "Add", "MaxPool", "Resize"}
    # pre-activation networks: a batch-norm in front of a convolution cannot be folded into one
    if name.startswith(("yx_", "pu_")):
        operators |= {"BatchNormalization"}
    counted = Counter(node.op_type for node in graph.node)
    assert set(counted) <= operators, counted
    read = {i for node in graph.node for i in node.input} | {o.name for o in graph.output}
    assert {t.name for t in graph.initializer} <= read and {o for node in graph.node for o in node.output} <= read
    assert len({t.name for t in graph.initializer}) == len(graph.initializer)
    shape = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", 3, reference.contract.height, reference.contract.width]
    for node in graph.node:
        if node.op_type == "Resize":
            seen = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            seen = {k: v.decode() if isinstance(v, bytes) else v for k, v in seen.items()}
            wanted = BILINEAR if "mspn" in name else NEAREST
            assert {k: seen.get(k) for k in wanted} == wanted
            assert not node.input[1] and len(node.input) == 3  # by scales, so no size is fixed


def test_batch_is_free(exported):
    name, reference, model = exported
    c = reference.contract
    if c.height * c.width > 256 * 192 and "hourglass" in name:
        pytest.skip("slow, and the same operators as the others have")
    images = torch.randn(3, 3, c.height, c.width, generator=torch.Generator().manual_seed(1)).numpy()
    (together,) = run(model, {"images": images})
    alone = np.concatenate([run(model, {"images": image[None]})[0] for image in images[:2]])
    # kernels for another batch size sum in another order
    np.testing.assert_allclose(together[:2], alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())


def test_crops_and_torchscript_and_free_size(exported, tmp_path):
    """The bundle's graphs on crops, and the plain graph on another size, against PyTorch: each call compares."""
    name, reference, model = exported
    if "hourglass" in name:
        pytest.skip("slow, and the same operators as the others have")
    c = reference.contract
    crops = np.random.default_rng(2).integers(0, 256, (1, c.height, c.width, 3), np.uint8)
    (expected,) = reference.infer(crops)
    (seen,) = run(with_crops(model, c), {"crops": crops})
    np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    with_free_size(model, reference)
    to_torchscript(reference, tmp_path / "torchscript.pt")


@pytest.mark.parametrize("name", MANIFESTS)
def test_contract_follows_the_layout_of_the_file(name: str, hollow_file):
    row = row_of(name)
    network = on_meta(row.arch, row.keypoints)
    found = checkpoint.load(hollow_file(name), network)
    contract = row.with_layout(found.layout).contract()
    # the HRNet repository's pose_resnets and Megvii's MSPN were trained on BGR, all others on RGB
    bgr = name.startswith("mg_") or name.startswith("hr_pose_resnet")
    assert contract.model_color == ("BGR" if bgr else "RGB")
    rule = {"mg": "megvii_original", "pu": "hourglass"}.get(name[:2], "megvii" if "mspn" in name else "default")
    assert contract.decode == rule
    assert (contract.height, contract.width) == tuple(MANIFESTS[name]["input"][2:])
    assert len(contract.keypoints) == MANIFESTS[name]["num_keypoints"]
    means = {"mg": (0.406, 0.456, 0.485), "pu": (0.0, 0.0, 0.0)}
    assert contract.mean == means.get(name[:2], (0.485, 0.456, 0.406))


KINDS = sorted({(row.arch, row.keypoints) for row in catalog.rows().values()})
network_on_meta = cache(on_meta)


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_wrong_pairing_is_refused_and_named(name: str):
    """The source's names and shapes against the network of every row."""
    own = (row_of(name).arch, MANIFESTS[name]["num_keypoints"])
    with torch.device("meta"):
        state = {
            key: torch.empty(shape, dtype=torch.int64 if key.endswith("num_batches_tracked") else torch.float32)
            for key, shape in MANIFESTS[name]["state_dict"]
        }
    for arch, keypoints in KINDS:
        network = network_on_meta(arch, keypoints)
        if (arch, keypoints) == own:
            checkpoint.fit(state, network, "w.pth")
            continue
        with pytest.raises(CheckpointError) as caught:
            checkpoint.fit(state, network, "w.pth")
        assert f"looks like {own[0]} with {own[1]} keypoints" in str(caught.value), (arch, keypoints)


def published(row: catalog.Row, sha256: str | None, stages: int | None = None) -> dict[str, Any]:
    return Provenance("file" if sha256 else "random", "w.pth", sha256).published(row, stages)


def test_published_figures_are_claimed_for_the_published_file_only():
    row, original = catalog.find("mspn_50_4"), catalog.find("pose_resnet_50")
    own = published(row, f"{row.sha256_prefix}{'0' * 56}")
    assert own["published"] == row.metrics and own["published_for"] == "this checkpoint"
    other = published(row, "0" * 64)
    assert not other["published"] and other["published_elsewhere"] == row.metrics
    assert other["published_for"].startswith("another file of this row") and row.file in other["published_for"]
    early = published(row, f"{row.sha256_prefix}{'0' * 56}", stages=2)
    assert (
        not early["published"] and early["published_elsewhere"] == row.metrics and "first 2" in early["published_for"]
    )
    unproven = published(original, "0" * 64)
    assert unproven["published"] == original.metrics and "no digest" in unproven["published_for"]
    assert published(original, None) == {"published": {}} == published(original.with_layout("mmpose-0.x"), "0" * 64)


def test_a_published_file_of_another_row_is_refused(hollow_file, monkeypatch: pytest.MonkeyPatch):
    """AIC's 14 joints and CrowdPose's have the same names and shapes; the digest tells them apart."""
    aic, crowdpose = (catalog.find("hrnet_w32", name) for name in ("aic", "crowdpose"))
    path = hollow_file("mm_hrnet_w32_aic_256x192")
    network = build_arch(aic.arch, 14)
    assert weights.load_weights(crowdpose, network, str(path)).layout == "mmpose-0.x"  # an unknown file may be either
    monkeypatch.setattr(checkpoint, "sha256", lambda path: f"{aic.sha256_prefix}{'0' * 56}")
    assert weights.load_weights(aic, network, str(path)).published(aic, None)["published"] == aic.metrics
    with pytest.raises(CheckpointError, match=f"published file of {aic.id}.*use --model {aic.id}"):
        weights.load_weights(crowdpose, network, str(path))


def built(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    output = tmp_path / "out.pose"
    assert main(["build", *arguments, "--limit", "1", "--output", str(output)]) == 0
    with Bundle(output) as bundle:
        assert bundle.accuracy["verdict"] == "unproven"
        bundle.check()
        return bundle.manifest


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.all_models) for n in MANIFESTS])
def test_build_takes_every_source_file(name: str, source_file, tmp_path: Path):
    row = row_of(name)
    which = ["--model", row.id] if name not in ASKED else ["--arch", row.arch, "--dataset", row.dataset]
    manifest = built(tmp_path, *which, "--weights", str(source_file(name)), "--precision", "fp32")
    layout = manifest["model"]["checkpoint"]["layout"]
    assert layout == {"mm": "mmpose-0.x", "mg": "megvii"}.get(name[:2], "original")
    assert manifest["contract"]["decode"] == row.with_layout(layout).decode
    assert manifest["model"]["macs"] == macs.counted(row).macs_test_path
    assert not manifest["accuracy"]["published"] or not row.sha256_prefix


def test_build_stops_after_a_stage(source_file, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """From Princeton's file, with a plain graph of free size beside the bundle."""
    plain = tmp_path / "plain.onnx"
    arguments = ["--arch", "hourglass_2", "--weights", str(source_file("pu_hg2_mpii_256x256"))]
    manifest = built(tmp_path, *arguments, "--stages", "1", "--onnx", str(plain), "--dynamic-size")
    assert manifest["name"] == "hourglass_2-mpii-256x256-stage1" and manifest["model"]["stages"] == 1
    row = macs.counted(catalog.find("hourglass_2"))
    assert manifest["contract"] == json.loads(json.dumps(row.contract().to_json()))
    assert 0.5 * row.macs_test_path < manifest["model"]["macs"] < 0.7 * row.macs_test_path
    model = onnx.load(plain)
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 3, "H", "W"]
    assert run(model, {"images": np.zeros((1, 3, 128, 192), np.float32)})[0].shape == (1, 16, 32, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "mm_4xmspn50_coco_256x192", "--stages", "5"], "has 4 stages, it cannot stop after 5: say 1 to 4"),
        (["--arch", "hrnet_w32", "--stages", "1"], "hrnet_w32 is not made of stages"),
        (["--arch", "hrnet_w32", "--dynamic-size"], "--dynamic-size applies to --onnx FILE"),
    ],
)
def test_what_cannot_be_built_is_refused_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["build", *arguments, "--weights", "random", "--output", str(tmp_path / "x.pose")]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_models_lists_every_row_and_the_cost_of_stages(capsys: pytest.CaptureFixture[str]):
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {r["id"] for r in listed} == set(catalog.rows()) and all(r["buildable"] for r in listed)
    assert main(["models", "--per-stage", "mspn"]) == 0
    # the sources' own counts of MSPN with one to four stages
    assert "1: 4.97  2: 10.73  3: 16.49  4: 22.26" in capsys.readouterr().out
    assert main(["models", "hrnet_w3x"]) == 2


def test_inspect_says_whose_the_published_figures_are(narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    row = catalog.find("mspn_50_4")
    monkeypatch.setattr(Bundle, "accuracy", {"verdict": "unproven", "rows": [], **published(row, "0" * 64)})
    with Bundle(narrow_bundle) as bundle:
        lines = describe(bundle)
    assert f"  published  AP 0.764, AP50 0.906: of another file of this row ({row.file})" in lines
