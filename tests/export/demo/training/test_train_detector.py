"""Training the detector: boxes stay with their pictures, cells go to the right people, and the command works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from posert.export.demo.detector_network import Detector
from posert.export.demo.letterbox import HEIGHT, PADDING, WIDTH
from posert.export.demo.training import train_detector
from posert.export.demo.training.assign import assign, boxes_of, cells, iou, loss
from posert.export.demo.training.detections import average_precision, detections
from posert.export.demo.training.train_detector import Augmented, Pictures

CORNERS, STRIDES = cells()


def perfect(people: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    """Answers `(A, 6)`, logits, of a network that knows each person at the cells around their centre."""
    answers = torch.zeros(len(CORNERS), 6)
    answers[:, 4:] = -20
    middle, sides = (people[:, :2] + people[:, 2:]) / 2 + shift, people[:, 2:] - people[:, :2]
    for m, s in zip(middle, sides, strict=True):
        near = ((CORNERS + STRIDES / 2 - m).abs() < STRIDES).all(1)
        answers[near, :2] = (m - CORNERS[near]) / STRIDES[near]
        answers[near, 2:4] = (s / STRIDES[near]).log()
        answers[near, 4:] = 20.0
    return answers


def apart(count: int, seed: int) -> torch.Tensor:
    """Boxes `(G, 4)` whose centres are in different columns of the picture."""
    rng = np.random.default_rng(seed)
    x = 40 + 80 * np.arange(count) + rng.uniform(-8, 8, count)
    y = rng.uniform(80, 170, count)
    w, h = rng.uniform(20, 60, count), rng.uniform(60, 150, count)
    return torch.tensor(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1), dtype=torch.float32)


box = st.tuples(st.floats(0, 200), st.floats(0, 200), st.floats(1, 90), st.floats(1, 90))


@given(st.lists(box, min_size=1, max_size=4), st.lists(box, min_size=1, max_size=4))
@settings(deadline=None)
def test_the_overlap_is_that_of_pycocotools(a: list[tuple[float, ...]], b: list[tuple[float, ...]]) -> None:
    expected = mask.iou(np.array(a), np.array(b), [0] * len(b))
    one, other = (torch.tensor([[x, y, x + w, y + h] for x, y, w, h in some], dtype=torch.float64) for some in (a, b))
    assert np.allclose(iou(one[:, None], other[None]).numpy(), expected, atol=1e-6)


def test_cells_are_in_the_order_of_the_network() -> None:
    network = Detector().eval()
    with torch.inference_mode():
        maps, answers = network.maps(torch.zeros(1, 3, HEIGHT, WIDTH)), network(torch.zeros(1, 3, HEIGHT, WIDTH))
    assert answers.shape == (1, len(CORNERS), 6)
    start = 0
    for m, stride in zip(maps, (8, 16, 32), strict=True):
        height, width = m.shape[2:]
        assert (height, width) == (HEIGHT // stride, WIDTH // stride)
        row, column = height // 2, width // 3
        cell = start + row * width + column
        assert CORNERS[cell].tolist() == [column * stride, row * stride] and STRIDES[cell] == stride
        assert torch.allclose(answers[0, cell, :4], m[0, :4, row, column])
        assert torch.allclose(answers[0, cell, 4:], m[0, 4:, row, column].sigmoid())
        start += height * width


@pytest.mark.parametrize("count", [1, 2, 3])
def test_perfect_answers_are_assigned_to_their_people_and_cost_nothing(count: int) -> None:
    people = apart(count, count)
    answers = perfect(people)
    boxes = boxes_of(answers, CORNERS, STRIDES)
    cell, person = assign(answers, boxes, people, CORNERS, STRIDES)
    assert set(person.tolist()) == set(range(count)) and len(set(cell.tolist())) == len(cell)
    assert torch.allclose(boxes[cell], people[person], atol=1e-3)
    # Cells that know a person and are not asked cost something: only the ten nearest answer.
    exact = answers.clone()
    exact[:, 4] = -20
    exact[cell, 4] = 20
    assert loss(exact[None], [people], CORNERS, STRIDES) < 1e-3
    wrong = perfect(people, shift=24.0)
    assert loss(wrong[None], [people], CORNERS, STRIDES) > 1


def test_nobody_there() -> None:
    answers = perfect(apart(1, 0))[None]
    assert loss(answers, [torch.zeros(0, 4)], CORNERS, STRIDES) > 1
    answers[..., 4] = -20
    assert loss(answers, [torch.zeros(0, 4)], CORNERS, STRIDES) < 1e-3


def test_two_people_in_one_place_share_no_cell() -> None:
    people = torch.tensor([[100.0, 60, 160, 200], [104.0, 60, 164, 200]])
    answers = perfect(people)
    cell, person = assign(answers, boxes_of(answers, CORNERS, STRIDES), people, CORNERS, STRIDES)
    assert len(set(cell.tolist())) == len(cell) and len(person) == len(cell)


def test_perfect_answers_are_decoded_to_their_boxes() -> None:
    people = apart(3, 5)
    answers = perfect(people)
    answers[:, 4:] = answers[:, 4:].sigmoid()
    boxes, scores = detections(answers.numpy())
    assert len(boxes) == 3 and (scores > 0.99).all()
    order = np.argsort(boxes[:, 0])
    xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)[order]
    assert np.abs(xyxy - people.numpy()).max() < 1e-2
    images = [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 2
    truth = [[{"bbox": [x, y, x2 - x, y2 - y], "num_keypoints": 17} for x, y, x2, y2 in people.tolist()]] * 2
    figures = average_precision(lambda _: answers[None].numpy(), images, truth)
    assert figures == {"AP": 1.0, "AP50": 1.0, "AP50_labelled": 1.0}
    hidden = {"bbox": [2, 2, 30, 30], "num_keypoints": 0}
    figures = average_precision(lambda _: answers[None].numpy(), images, [[*one, hidden] for one in truth])
    assert figures["AP50"] < 0.8 and figures["AP50_labelled"] == 1.0
    elsewhere = [[{"bbox": [0, 0, 9, 9], "num_keypoints": 17}]] * 2
    assert average_precision(lambda _: answers[None].numpy(), images, elsewhere)["AP50"] == 0


def test_augmentation_moves_picture_and_boxes_together() -> None:
    """White boxes on black: wherever they come to lie, that is where the labels are."""
    pictures = Pictures("train", 0, 0)
    for height, width in ((240, 320), (360, 480)):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[80:200, 120:180] = 255
        pictures.images.append(picture)
        pictures.people.append([{"bbox": [120, 80, 60, 120]}])
    images, boxes = Augmented(pictures, seed=1).batch()
    assert sum(len(b) for b in boxes) >= 12
    for image, (several) in zip(images, boxes, strict=True):
        for x0, y0, x1, y1 in several.tolist():
            rows, columns = np.nonzero(image[..., 0] > 185)  # nearer to white than to the grey border
            # Between two pixels the border may be on either side.
            assert abs(columns.min() - x0) <= 1 and abs(columns.max() + 1 - x1) <= 1
            assert abs(rows.min() - y0) <= 1 and abs(rows.max() + 1 - y1) <= 1
    assert any((image == PADDING).all(2).any() for image in images)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    output = tmp_path / "d.safetensors"
    command = [sys.executable, "-m", "posert.export.demo.training.train_detector", "--output", str(output)]
    options = ["--minutes", "0.1", "--images", "16", "--clips", "1", "--held-out", "10", "--evaluations", "1"]
    subprocess.run([*command, *options], check=True, capture_output=True, env={"POSERT_CACHE": str(tmp_path)})
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["curve"][-1]["samples"] > 0 and 0 <= record["images"]["AP50"] <= 1
    assert "d.safetensors" in record["command"] and str(tmp_path) not in record["command"]
    trained = Detector()
    from safetensors.torch import load_file

    trained.load_state_dict({k: v.float() for k, v in load_file(output).items()}, strict=False)
    assert train_detector.evaluate(trained.eval(), Pictures("val", 0, 1))["AP50"] >= 0
