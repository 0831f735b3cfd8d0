"""A network with three channels per joint (UDP's combined maps), through a whole build with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from posert.export import archs, catalog
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.decode import decode, to_frame
from posert.runtime.pose.preprocess import check_boxes, crop_regions

SOURCE = '''
from torch import nn
from posert.export.archs import Architecture

class Combined(nn.Module):
    """Maps at an eighth of the image's size."""
    def __init__(self, channels):
        super().__init__()
        self.first, self.second, self.last = (nn.Conv2d(a, b, 3, 2, 1) for a, b in ((3, 16), (16, 16), (16, channels)))
        self.relu = nn.ReLU()

    def forward(self, images):
        return self.last(self.relu(self.second(self.relu(self.first(images)))))

ROWS = {"combined_coco_64x48": {"dataset": "coco", "input": [64, 48], "decode": "udp_combined", "udp": True}}
ARCHITECTURES = Architecture("combined", Combined, stride=8, rows=ROWS)
'''


@pytest.fixture
def installed(install_plugin: Callable[..., Path]) -> Iterator[None]:
    install_plugin("posert-combined", SOURCE, archs.GROUP, combined="posert_combined:ARCHITECTURES")
    for cached in (archs._load, catalog._load):
        cached.cache_clear()
    yield
    for cached in (archs._load, catalog._load):
        cached.cache_clear()


@pytest.mark.usefixtures("installed")
def test_it_is_built_verified_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "combined.pose"
    arguments = ["--model", "combined_coco_64x48", "--weights", "random", "--precision", "fp32,fp16,int8"]
    assert main(["build", *arguments, "--limit", "1", "--output", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "unproven"
    assert main(["verify", str(output), "--json"]) == 0
    with Bundle(output) as bundle:
        c = bundle.contract
        assert (c.decode, c.heatmap_height, c.heatmap_width) == ("udp_combined", 8, 6)
        assert [maps.shape for maps in bundle.golden().outputs] == [(1, 51, 8, 6)]
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    boxes = check_boxes([[10, 10, 60, 100], [40, 20, 90, 110]])
    pose = PoseEstimator(output, backend="onnxruntime", precision="fp32")
    people, maps = pose(frame, boxes), pose.outputs(frame, boxes)[0]
    assert maps.shape == (2, 51, 8, 6)
    cells, score = decode((maps,), c)
    np.testing.assert_array_equal(people.score, score)
    np.testing.assert_array_equal(people.xy, to_frame(cells, *crop_regions(boxes, c), 6, 8, udp=True))
