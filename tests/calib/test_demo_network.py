"""On a trained network: clipping a heatmap ruins it, and ranges do not depend on batches or threads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posert.calib.images import crops_from_coco
from posert.calib.placement import place
from posert.calib.qdq import quantize
from posert.calib.ranges import collect
from posert.calib.sensitivity import infer, keypoint_loss
from posert.export.archs import build_arch
from posert.export.catalog import find
from posert.export.demo.frames import demo_frames
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import to_onnx, with_crops
from posert.export.weights.load import load_weights


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(float32 graph, contract, calibration set, held-out crops)"""
    row = find("hrnet_demo")
    network = build_arch(row.arch, row.keypoints)
    load_weights(row, network, "demo")
    contract = row.contract()
    model = with_crops(to_onnx(Reference(network, contract)), contract)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        sets = []
        for split in ("calib", "val"):
            frames = demo_frames(row.keypoints, split, 8, "synthetic people")
            sets.append(crops_from_coco(frames.coco, frames.read, contract, 12))
    return model, contract, sets[0], np.concatenate(list(sets[1]))


def test_clipping_ruins_a_heatmap_and_it_is_kept_out_of_int8(demo):
    model, contract, crops, held_out = demo
    reference = infer(model, held_out, 1)
    placed = place(model)
    assert "heatmaps" not in placed.tensors, "no range of it is needed"
    made = quantize(model, collect(model, crops, placed.tensors, threads=1), unsigned=True).model
    found = infer(made, held_out, 1)
    assert keypoint_loss(found, reference, contract) < 0.01
    # Half of the largest value, as entropy calibration chooses: what is cut off is the peak that the decoder reads.
    limit = float(reference[0].max()) / 2
    forced = np.clip(np.rint(found[0] / (limit / 127)), -128, 127) * (limit / 127)
    assert keypoint_loss((forced.astype(np.float32),), reference, contract) > 0.05


def test_the_same_people_give_the_same_bytes(demo):
    """However they are cut into batches, and on any number of threads."""
    model, _, crops, _ = demo
    people = np.concatenate(list(crops))

    def ranges(batches, threads):
        found = collect(model, batches, place(model).tensors[:12], threads=threads).to_json()
        return json.dumps(found["ranges"]).encode()

    first = ranges(crops, 1)
    assert ranges([people], 1) == first
    assert ranges([people[i : i + 5] for i in range(0, len(people), 5)], 2) == first
