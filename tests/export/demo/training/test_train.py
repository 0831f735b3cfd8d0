"""Training on synthetic people: crops and targets agree, and the command gives weights that can be used."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from posert.export.archs import build_arch
from posert.export.demo import demo_weights, people
from posert.export.demo.training import train
from posert.export.demo.training.crops import average_precision
from posert.export.weights.load import random_weights
from posert.runtime.accuracy.people import labelled_people
from posert.runtime.pose.decode import decode

WIDTH, HEIGHT = 96, 128


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_a_target_decodes_to_its_joint() -> None:
    rng = np.random.default_rng(0)
    joints = np.ones((40, 17, 3), np.float32)
    joints[..., 0], joints[..., 1] = rng.uniform(12, WIDTH - 12, (40, 17)), rng.uniform(12, HEIGHT - 12, (40, 17))
    heatmaps, weights = train.targets(joints, WIDTH // 4, HEIGHT // 4)
    assert (weights == 1).all() and heatmaps.shape == (40, 17, HEIGHT // 4, WIDTH // 4)
    error = decode((heatmaps,), train.contract(WIDTH, HEIGHT))[0] * 4 - joints[..., :2]
    # The quarter offset leaves at most a quarter of a heatmap pixel, 1 px of the crop, and no bias.
    assert np.abs(error).max() <= 1 + 1e-3
    assert np.abs(error.mean((0, 1))).max() < 0.1


def test_joints_that_cannot_be_learned_do_not_count() -> None:
    joints = np.array([[[8, 8, 2], [8, 8, 1], [0, 0, 0], [-20, 8, 2], [8, HEIGHT + 3, 2]]], np.float32)
    assert train.targets(joints, WIDTH // 4, HEIGHT // 4)[1].tolist() == [[1, 1, 0, 0, 0]]


def test_perfect_heatmaps_score_one() -> None:
    contract = train.contract(192, 256)
    _, labels = people.generate("val", 8)
    found = labelled_people(labels)
    joints, matrix = found.joints.copy(), train.matrices(found, contract)
    joints[..., :2] = np.einsum("nij,nkj->nki", matrix[:, :, :2], joints[..., :2]) + matrix[:, None, :, 2]
    heatmaps, _ = train.targets(joints.astype(np.float32), 48, 64)
    assert average_precision(heatmaps, found, labels, contract)["AP"] > 0.98
    assert average_precision(heatmaps[:, :, ::-1].copy(), found, labels, contract)["AP"] < 0.1


def test_augmentation_moves_picture_and_joints_together() -> None:
    """A frame with a dot on each joint: wherever the crop puts the dot, its target has its peak."""
    frame = np.zeros((people.HEIGHT, people.WIDTH, 3), np.uint8)
    places = [(130, 90), (190, 90), (130, 160), (190, 160)]
    for x, y in places:
        cv2.circle(frame, (x, y), 4, (255, 255, 255), -1)
    k = np.zeros((17, 3))
    k[[5, 6, 11, 12]] = [(x, y, 2) for x, y in places]
    annotation = {"image_id": 1, "num_keypoints": 4, "bbox": [100, 60, 120, 130], "keypoints": k.reshape(-1).tolist()}
    found = labelled_people({"images": [{"id": 1, "file_name": "dots.png"}], "annotations": [annotation]})
    crops, heatmaps, weights = train.Augmented(frame[None], found, WIDTH, HEIGHT, seed=0).batch()
    mirrored = 0
    for image, maps, counts in zip(crops, heatmaps, weights, strict=True):
        joints = np.flatnonzero(counts)
        assert joints.tolist() == [5, 6, 11, 12]
        xy = decode((maps[None],), train.contract(WIDTH, HEIGHT))[0][0] * 4
        mirrored += xy[5, 0] > xy[6, 0]
        _, _, _, centres = cv2.connectedComponentsWithStats((image[..., 0] > 127).astype(np.uint8))
        for x, y in xy[joints]:
            # A quarter of a heatmap pixel from the decode rule, half a crop pixel from the threshold.
            assert np.abs(centres[1:] - (x, y)).max(1).min() < 1.6
    # The left joints are drawn on the left here, so a crop with the left joint on the right would be a flip that kept
    # names: mirroring exchanges the names as well, which leaves them where they were.
    assert mirrored == 0
    assert len({image.tobytes() for image in crops}) == train.BATCH


def test_about_half_of_the_crops_are_mirrored() -> None:
    images, labels = people.generate("train", 2)
    found = labelled_people(labels)
    batches = train.Augmented(images, found, WIDTH, HEIGHT, seed=0)
    flips = [np.linalg.det(batches._matrix(0)[0][:, :2]) < 0 for _ in range(60)]
    assert 15 < sum(flips) < 45


def test_the_average_follows_the_network() -> None:
    network = torch.nn.Linear(2, 2)
    average = train.Average(network, decay=0.9)
    with torch.no_grad():
        network.weight.fill_(3.0)
    for _ in range(200):
        average.update(network)
    assert torch.allclose(average.network.weight, torch.full((2, 2), 3.0), atol=1e-4)


def test_the_command_trains_and_writes_what_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.safetensors"
    fixed = ["--arch", "hrnet_demo", "--output", str(path), "--imgsz", "64x64", "--held-out", "3"]
    monkeypatch.setattr("sys.argv", ["train", *fixed, "--minutes", "0.03", "--images", "4", "--evaluations", "1"])
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        train.main()
        record = json.loads(path.with_suffix(".json").read_text())
        assert record["curve"][-1]["samples"] >= train.BATCH
        assert "--output tiny.safetensors" in record["command"] and str(tmp_path) not in path.read_bytes().decode(
            "latin1"
        )
        network = build_arch("hrnet_demo", 17)
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
        assert all(torch.isfinite(value).all() for value in network.state_dict().values())
        assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]

        monkeypatch.setattr("sys.argv", ["train", *fixed[:-1], "2", "--minutes", "0"])
        train.main()
        again = json.loads(path.with_suffix(".json").read_text())
        assert again["held_out_images"] == 2 and again["curve"] == record["curve"]
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    assert '"arch": "hrnet_demo"' in capsys.readouterr().out


def test_the_loss_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps on one batch, by the parts that the command is made of."""
    images, labels = people.generate("train", 6)
    found = labelled_people(labels)
    torch.manual_seed(0)
    network = build_arch("hrnet_demo", 17)
    train.initialise(network)
    network.train()
    crops, heatmaps, weights = train.Augmented(images, found, 64, 64, seed=0).batch()
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        difference = (network(x) - torch.from_numpy(heatmaps)).square().sum((2, 3))
        loss = (difference * torch.from_numpy(weights)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_shipped_network_finds_people_that_it_never_saw() -> None:
    network = build_arch("hrnet_demo", 17)
    network.load_state_dict(demo_weights("hrnet_demo"))
    ap = train.evaluate(network, 12, 192, 256)["AP"]
    # 0.9 or so on a thousand images; a dozen images scatter by several hundredths.
    assert ap > 0.75
    network.load_state_dict(random_weights(network))
    assert train.evaluate(network, 12, 192, 256)["AP"] < 0.1
