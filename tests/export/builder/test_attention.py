"""A network with attention, from an installed package, through a whole build with random weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from posert.calib import macs
from posert.export import archs, catalog
from posert.export.graph.macs import counted
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main

SOURCE = '''
from torch import nn
from posert.export.archs import Architecture

class Attention(nn.Module):
    """Patches, one transformer layer, and a head at half of the image's size."""
    def __init__(self, keypoints, width=32):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True)
        self.neck = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.ConvTranspose2d(width, keypoints, 4, stride=2, padding=1)

    def forward(self, images):
        x = self.patches(images)
        tokens = self.layer(x.flatten(2).transpose(1, 2))
        return self.head(self.neck(tokens.transpose(1, 2).reshape(x.shape)))

ROWS = {"attention_coco_64x48": {"dataset": "coco", "input": [64, 48]}}
ARCHITECTURES = Architecture("attention", Attention, stride=2, rows=ROWS)
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "posert_test_attention.py").write_text(SOURCE)
    point = metadata.EntryPoint("attention", "posert_test_attention:ARCHITECTURES", archs.GROUP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(archs, "plugins", lambda group: [point])
    for cached in (archs._load, catalog._load):
        cached.cache_clear()
    yield
    for cached in (archs._load, catalog._load):
        cached.cache_clear()
    sys.modules.pop("posert_test_attention")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("known", [True, False], ids=["counted", "unknown"])
def test_it_is_built_whether_its_multiply_adds_are_known_or_not(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not known:
        monkeypatch.setattr(macs, "of_node", lambda *_: None)
    output = tmp_path / "a.pose"
    precisions = "fp32,fp16,int8" if known else "fp32,int8"
    arguments = ["--model", "attention_coco_64x48", "--weights", "random", "--precision", precisions, "--limit", "1"]
    assert main(["build", *arguments, "--output", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "unproven"
    with Bundle(output) as bundle:
        bundle.check()
        assert (bundle.contract.heatmap_height, bundle.contract.heatmap_width) == (32, 24)
        macs_of_bundle, calibration = bundle.manifest["model"]["macs"], bundle.manifest["calibration"]
    if known:
        assert macs_of_bundle == counted(catalog.row("attention_coco_64x48")).macs_test_path
        assert 0 < calibration["int8_macs"] < 1
    else:
        assert macs_of_bundle is calibration["int8_macs"] is None
        assert calibration["verdict"].startswith("An unknown share of the multiply-adds are in int8")
