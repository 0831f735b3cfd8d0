"""Drawing: what is painted where, in which colour."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import datasets
from posert.runtime.errors import InputError
from posert.runtime.pose.draw import COLORS, SIDES, draw, layout
from posert.runtime.pose.keypoints import Keypoints
from posert.tests.contracts import contract_of


def contract(name: str = "coco") -> Contract:
    return contract_of(name, 192, 256)


COCO = contract()


def person(points: dict[str, tuple[float, float]], size: float = 300.0, shape: Contract = COCO) -> Keypoints:
    """One person with some joints at places of their own; the others score nothing."""
    k = len(shape.keypoints)
    xy, score = np.zeros((1, k, 2), np.float32), np.zeros((1, k), np.float32)
    for name, place in points.items():
        xy[0, shape.keypoints.index(name)], score[0, shape.keypoints.index(name)] = place, 0.9
    return Keypoints(xy, score, np.array([[0, 0, size, size]], np.float32), shape.keypoints)


def black(height: int = 300, width: int = 300) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def test_joints_and_limbs_have_the_colour_of_their_side() -> None:
    frame = black()
    people = person(
        {
            "left_shoulder": (200, 50),
            "left_elbow": (200, 150),
            "right_shoulder": (50, 50),
            "right_elbow": (50, 150),
            "nose": (250, 250),
        }
    )
    assert draw(frame, people, COCO) is frame
    for (x, y), side in {
        (200, 50): "left",
        (200, 100): "left",
        (50, 150): "right",
        (50, 100): "right",
        (125, 50): "centre",  # between the shoulders
        (250, 250): "centre",
    }.items():
        assert tuple(frame[y, x]) == COLORS[side], (x, y)
    assert not frame[160:240].any()


def test_a_joint_that_scores_low_is_left_out_with_its_limbs() -> None:
    people = person({"left_shoulder": (50, 50), "left_elbow": (50, 150), "left_wrist": (150, 150)})
    people.score[0, COCO.keypoints.index("left_wrist")] = 0.29
    frame = draw(black(), people, COCO)
    assert frame[100, 50].any()
    assert not frame[:, 100:].any()
    assert draw(black(), people, COCO, threshold=0.2)[150, 100].any()


@pytest.mark.parametrize("place", [(np.nan, 50.0), (np.inf, 50.0), (50.0, -np.inf)])
def test_a_joint_that_is_not_finite_is_left_out(place: tuple[float, float]) -> None:
    assert not draw(black(), person({"nose": place}), COCO, threshold=-np.inf)[5:, 5:].any()


def test_joints_far_outside_leave_the_rest_whole() -> None:
    frame = draw(black(), person({"left_shoulder": (1e9, -1e9), "left_elbow": (150, 150)}), COCO)
    assert tuple(frame[150, 150]) == COLORS["left"]


def test_nobody_changes_nothing() -> None:
    frame = np.full((40, 40, 3), 7, np.uint8)
    empty = Keypoints(
        np.empty((0, 17, 2), np.float32), np.empty((0, 17), np.float32), np.empty((0, 4), np.float32), COCO.keypoints
    )
    assert (draw(frame, empty, COCO, boxes=True) == 7).all()


def test_lines_grow_with_the_person() -> None:
    points = {"left_shoulder": (50.0, 50.0), "left_elbow": (250.0, 50.0)}
    painted = [int(draw(black(), person(points, size), COCO).any(2)[:, 150].sum()) for size in (40, 300, 900)]
    assert painted[0] < painted[1] < painted[2]


def test_coordinates_are_pixel_centres() -> None:
    # A dot at (20.5, 20.5) lies between four pixels, and is the same seen from each of them.
    frame = draw(black(42, 42), person({"nose": (20.5, 20.5)}, 80), COCO)
    assert frame.any()
    np.testing.assert_allclose(frame.astype(int), frame[::-1].astype(int), atol=64)  # OpenCV's own anti-aliasing
    mass = frame.sum(2)
    ys, xs = np.mgrid[:42, :42]
    assert (mass * xs).sum() / mass.sum() == pytest.approx(20.5, abs=0.1)
    assert (mass * ys).sum() / mass.sum() == pytest.approx(20.5, abs=0.1)


def test_boxes_are_drawn_when_asked_for() -> None:
    people = person({"nose": (150, 150)}, 200)
    assert not draw(black(), people, COCO)[200, 60:140].any()
    assert draw(black(), people, COCO, boxes=True)[200, 60:140].any(1).all()


def test_a_view_of_a_larger_picture_can_be_drawn_on() -> None:
    large = black(300, 600)
    view = large[:, ::2]
    draw(view, person({"nose": (100, 100)}), COCO)
    np.testing.assert_array_equal(view, draw(black(), person({"nose": (100, 100)}), COCO))
    assert not large[:, 1::2].any()


@pytest.mark.parametrize(
    "frame", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)]
)
def test_other_frames_are_refused(frame: np.ndarray) -> None:
    with pytest.raises(InputError, match="cannot draw on"):
        draw(frame, person({}), COCO)


def test_a_read_only_frame_is_refused() -> None:
    frame = black()
    frame.flags.writeable = False
    with pytest.raises(InputError, match=r"frame\.copy\(\)"):
        draw(frame, person({}), COCO)


def test_people_of_another_contract_are_refused() -> None:
    with pytest.raises(InputError, match="17 joints, the contract 16"):
        draw(black(), person({}), contract("mpii"))


@pytest.mark.parametrize("name", datasets())
def test_every_skeleton_can_be_drawn_and_mirrors(name: str) -> None:
    shape = contract(name)
    k = len(shape.keypoints)
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 300, (2, k, 2)).astype(np.float32)
    boxes = np.array([[0, 0, 300, 300]] * 2, np.float32)
    assert draw(black(), Keypoints(xy, np.ones((2, k), np.float32), boxes, shape.keypoints), shape).any()
    sides = layout(shape).joint_sides
    left, right, centre = (SIDES.index(s) for s in ("left", "right", "centre"))
    for a, b in shape.flip_pairs:
        assert {sides[a], sides[b]} in ({left, right}, {centre}), (shape.keypoints[a], shape.keypoints[b])
    paired = {joint for pair in shape.flip_pairs for joint in pair}
    assert all(sides[j] == centre for j in range(k) if j not in paired)


def test_left_and_right_differ_in_grey_too() -> None:
    grey = {side: cv2.cvtColor(np.uint8([[color]]), cv2.COLOR_BGR2GRAY)[0, 0] for side, color in COLORS.items()}
    assert abs(int(grey["left"]) - int(grey["right"])) > 30


def test_people_with_ids_have_boxes_of_different_colours_with_their_number() -> None:
    one = person({}, size=120.0)
    box = np.array([[40, 60, 160, 240]], np.float32)
    frames = []
    for number in (3, 4, 12):
        frame = black()
        draw(frame, Keypoints(one.xy, one.score, box, one.names, np.array([number])), COCO, boxes=True)
        frames.append(frame)
        assert frame[150, 40].any() and frame[240, 100].any()
        label = frame[30:60, 40:80]
        assert label.any(axis=2).sum() > 50 and len(np.unique(label.reshape(-1, 3), axis=0)) > 2  # a number on a ground
        hidden = black()
        draw(hidden, Keypoints(one.xy, one.score, box, one.names, np.array([number])), COCO)
        assert not hidden.any()
    assert (frames[0][150, 40] != frames[1][150, 40]).any()
    assert (frames[1] != frames[2]).any()


def test_a_number_stays_in_the_frame() -> None:
    frame = black(60, 60)
    one = person({}, size=50.0)
    people = Keypoints(one.xy, one.score, np.array([[-20, -30, 50, 50]], np.float32), one.names, np.array([7]))
    draw(frame, people, COCO, boxes=True)
    assert frame[:20, :20].any(axis=2).sum() > 30
