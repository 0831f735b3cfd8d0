"""The catalog against the published facts, which were collected from the sources apart from it."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from posert.export import archs, catalog
from posert.export.graph import macs
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import CatalogError

GOLDENS = Path(__file__).parents[1] / "goldens" / "models"
PUBLISHED = {row["id"]: row for row in json.loads(lzma.decompress((GOLDENS / "published.json.xz").read_bytes()))}


def test_catalog_file_holds_all_published_rows_and_claims_no_other_figures():
    rows = json.loads(Path(str(catalog.__file__)).with_name("catalog.json").read_text())["rows"]
    assert {id for id, entry in rows.items() if "metrics" in entry} == PUBLISHED.keys()


def test_every_published_network_is_compared_with_its_source():
    manifests = json.loads(lzma.decompress((GOLDENS / "manifests.json.xz").read_bytes()))
    assert {id.removesuffix("__mmdet_boxes") for id in PUBLISHED} <= manifests.keys()


@pytest.mark.parametrize("id", PUBLISHED)
def test_row_equals_what_was_published(id: str):
    row, truth = catalog.row(id), PUBLISHED[id]
    contract = row.contract()
    assert row.id == id and row.dataset == truth["dataset"] and row.keypoints == truth["num_keypoints"]
    assert (row.width, row.height) == (contract.width, contract.height) == tuple(truth["input"].values())
    assert (contract.heatmap_width, contract.heatmap_height) == tuple(truth["heatmap"].values())

    preprocess = truth["preprocess"]
    assert contract.model_color == preprocess["color_order"]
    assert list(contract.mean) == preprocess["mean"] and list(contract.std) == preprocess["std"]
    assert not contract.udp and not truth["decode"]["use_udp"]
    assert contract.flip_shift == truth["decode"]["shift_heatmap"] and row.flip_test == truth["decode"]["flip_test"]
    assert contract.kernel == (truth["decode"]["modulate_kernel"] or 11)
    # Princeton's decode has no name in its repository.
    assert contract.decode == ("hourglass" if id.startswith("pu_") else truth["decode"]["post_process"])

    if truth["target"]["encoding"] == "Megvii":
        assert row.target["kernels"] == [k for k, _ in truth["target"]["gaussian_kernels"]]
    else:
        assert row.target == {"encoding": "msra", "sigma": truth["target"]["sigma"]}

    checkpoint, model = truth["checkpoint"], truth["model"]
    assert (row.url, row.sha256_prefix, row.file) == tuple(checkpoint[k] for k in ("url", "sha256_prefix", "file"))
    assert (row.params, row.macs, row.macs_test_path) == tuple(model[k] for k in ("params", "macs", "macs_test_path"))
    whole = 100 if truth.get("metrics_unit") == "percent" else 1
    assert row.metrics == pytest.approx({name: value / whole for name, value in truth["metrics"].items()}, abs=1e-9)
    assert row.source.split()[0] == truth["source"]["repo"] and row.config == truth["source"]["config"]
    assert row.layout == ("mmpose" if id.startswith("mm_") else "original")
    settings = truth.get("eval_settings", {})
    for name in ("use_gt_bbox", "soft_nms", "nms_thr", "oks_thr", "vis_thr"):
        assert name not in settings or row.evaluation[name] == settings[name]
    # one threshold under two names; the row of its name from MMPose 0.29 is the catalog's
    threshold = settings.get("det_bbox_thr", settings.get("image_thr"))
    assert threshold is None or row.evaluation["det_bbox_thr"] == threshold


@pytest.mark.parametrize("id", PUBLISHED)
def test_contract_survives_a_bundle(id: str):
    contract = catalog.row(id).contract()
    assert Contract.from_json(json.loads(json.dumps(contract.to_json()))) == contract


@pytest.mark.parametrize("row", catalog.rows().values(), ids=lambda row: row.id)
def test_every_row_is_found(row: catalog.Row):
    assert catalog.find(row.id) == row
    found = catalog.find(row.arch, row.dataset, f"{row.height}x{row.width}")
    assert (found.arch, found.dataset, found.height, found.width) == (row.arch, row.dataset, row.height, row.width)


@pytest.mark.parametrize(
    ("wanted", "id"),
    [
        (("hrnet_w32",), "mm_hrnet_w32_coco_256x192"),
        (("pose_hrnet_w48",), "mm_hrnet_w48_coco_256x192"),
        (("hrnet_w32", None, "384x288"), "mm_hrnet_w32_coco_384x288"),
        (("hrnet_w32", "mpii"), "mm_hrnet_w32_mpii_256x256"),
        (("hrnet_w32", "coco_wholebody"), "mm_hrnet_w32_coco_wholebody_256x192"),
        (("hrnet_w32", "posetrack18"), "mm_hrnet_w32_posetrack18_256x192"),
        (("pose_resnet_50",), "hr_pose_resnet_50_coco_256x192"),
        (("pose_hourglass_52", "mpii", "384X384"), "mm_hourglass52_mpii_384x384"),
        (("2xmspn_50",), "mm_2xmspn50_coco_256x192"),
        (("hourglass_8",), "pu_hg8_mpii_256x256"),
        (("pose_hourglass_2",), "yx_pose_hourglass_2_coco_256x192"),
    ],
)
def test_find(wanted: tuple[str, ...], id: str):
    assert catalog.find(*wanted).id == id


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("hrnet",), "hrnet_w32 or hrnet_w48"),
        (("hrnet_w23",), "Did you mean hrnet_w32"),
        (("hrnet_w48", "aic"), "(?s)no hrnet_w48 for aic.*mm_hrnet_w48_mpii_256x256"),
        (("hrnet_w32", "mpii", "192x256"), "(?s)mpii 192x256.*hrnet_w32 mpii 256x256"),
        (("hrnet_w32", None, "256"), "write for instance 256x192"),
        (("hrnet_w32", None, "0x192"), "HEIGHTxWIDTH"),
        (("",), "could be"),
    ],
)
def test_find_says_what_there_is(wanted: tuple[str, ...], message: str):
    with pytest.raises(CatalogError, match=message):
        catalog.find(*wanted)


def test_unknown_id_offers_the_nearest():
    with pytest.raises(CatalogError, match="Did you mean mm_hrnet_w32_coco_256x192"):
        catalog.row("hrnet_w32_coco_256x192")


def test_caffe_variant_has_the_contract_but_no_weights_and_no_figures():
    row = catalog.find("pose_resnet_101_caffe")
    assert row.arch == "pose_resnet_101_caffe" and row.url is None and row.file is None and not row.metrics
    assert row.contract() == catalog.find("pose_resnet_101").contract()
    assert row.id not in catalog.rows()


def test_contract_follows_the_layout_of_the_weights():
    resnet = catalog.find("pose_resnet_50")
    assert resnet.with_layout("original") is resnet and resnet.contract().model_color == "BGR"
    foreign = resnet.with_layout("mmpose-1.x")
    assert foreign.contract().model_color == "RGB" and foreign.contract().mean == resnet.mean
    assert not foreign.metrics and foreign.url is None

    mspn = catalog.find("mspn_50_2")
    assert mspn.with_layout("mmpose-0.x") is mspn
    megvii = mspn.with_layout("megvii").contract()
    assert (megvii.model_color, megvii.mean, megvii.decode) == ("BGR", (0.406, 0.456, 0.485), "megvii_original")
    assert (megvii.enlarge, megvii.padding) == ((1.09, 1.135), 1.0)

    # HRNet's original weights see what MMPose's see
    hrnet = catalog.find("hrnet_w32")
    assert hrnet.with_layout("original").contract() == hrnet.contract()


def test_the_heatmap_follows_the_stride_of_the_architecture(monkeypatch: pytest.MonkeyPatch):
    row = catalog.find("hrnet_w32")
    of_row = replace(row, stride=8).contract()
    assert (of_row.heatmap_width, of_row.heatmap_height) == (24, 32)
    coarse = replace(archs.architecture("hrnet_w32"), stride=16)
    monkeypatch.setattr(archs, "architecture", lambda name: coarse)
    of_architecture = row.contract()
    assert (of_architecture.heatmap_width, of_architecture.heatmap_height) == (12, 16)


def test_figures_that_nobody_published_are_counted(monkeypatch: pytest.MonkeyPatch):
    """A variant has the published figures of the architecture that it varies: only the strides differ."""
    caffe, plain = catalog.find("pose_resnet_50_caffe"), catalog.find("pose_resnet_50")
    assert caffe.params is caffe.macs is caffe.macs_test_path is None
    found = macs.counted(caffe)
    assert found.params == plain.params and found.macs_test_path is not None
    assert found.macs_test_path < plain.macs_test_path  # the stride is on the first convolution, not on the second
    assert macs.counted(plain) is plain

    def refuse(*_: object) -> None:
        raise NotImplementedError("an operator without a meta kernel")

    monkeypatch.setattr(macs, "of_network", refuse)
    assert macs.counted(caffe) == caffe


# Whether published rows need torch or onnx or PyYAML shows in a process that lacks them.
EDGE = """
import sys
for name in ("torch", "onnx", "onnxruntime", "yaml", "rich", "onnxscript"):
    sys.modules[name] = None
from posert.runtime.cli.main import main
assert main(["models"{options}]) == 0
"""


def without_torch(options: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", EDGE.replace("{options}", options)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_are_listed_where_torch_is_not_installed():
    lines = {line.split()[0]: line for line in without_torch().splitlines()}
    assert PUBLISHED.keys() <= lines.keys()
    assert "28.5M     7.65  AP 0.746, AP50 0.904" in lines["mm_hrnet_w32_coco_256x192"]
    assert 'pip install "posert[export]"' in lines["To"]
    listed = json.loads(without_torch(', "hrnet_w32", "--json"'))
    assert listed and not any(row["buildable"] for row in listed)
    assert all(row["params"] == PUBLISHED[row["id"]]["model"]["params"] for row in listed)
