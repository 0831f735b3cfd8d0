"""The loop over images: order, reading ahead, warm-up, and what a message names."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime.accuracy.estimation import estimate
from posert.runtime.accuracy.people import People
from posert.runtime.errors import InputError


def people_in(*images: int) -> People:
    image = np.array(images, np.intp)
    count = len(image)
    files = tuple(f"{i}.png" for i in range(30))
    return People(files, image, images, np.arange(count), np.zeros((count, 4)), np.ones(count, np.float32))


def frame_of(image: int) -> NDArray[np.uint8]:
    return np.full((1, 1, 3), image, np.uint8)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_images_come_in_order_with_all_their_people(workers: int) -> None:
    people = people_in(4, 0, 4, 2, 0)
    found = list(estimate(people, frame_of, lambda frame, who: (int(frame[0, 0, 0]), who.tolist()), workers=workers))
    assert [one.result for one in found] == [(0, [1, 4]), (2, [3]), (4, [0, 2])]
    assert [one.image for one in found] == [0, 2, 4] == [int(one.frame[0, 0, 0]) for one in found]
    assert all(one.ms_per_person >= 0 for one in found)
    skipped = estimate(people, frame_of, lambda frame, who: None, skip={0, 4}, workers=workers)
    assert [one.image for one in skipped] == [2]
    assert not list(estimate(people_in(), frame_of, lambda frame, who: None, workers=workers))


def test_images_are_read_ahead_but_not_all() -> None:
    read: list[int] = []
    steps = estimate(
        people_in(*range(20)), lambda image: read.append(image) or frame_of(image), lambda *_: None, workers=2
    )
    for count, _ in enumerate(steps):
        assert len(read) <= count + 4
    assert sorted(read) == list(range(20))


def test_each_number_of_people_is_run_once_more_before_it_is_timed() -> None:
    calls: list[int] = []
    people = people_in(0, 1, 1, 2, 3, 3)
    list(estimate(people, frame_of, lambda frame, who: calls.append(len(who)), warm_up=True))
    assert calls == [1, 1, 2, 2, 1, 2]


@pytest.mark.parametrize(("runner", "said"), [("", "^1.png: box 0"), ("openvino int8", "^1.png, openvino int8: box 0")])
def test_a_refusal_names_the_image(runner: str, said: str) -> None:
    def refuse(frame: NDArray[np.uint8], who: NDArray[np.intp]) -> None:
        raise InputError("box 0 is outside")

    with pytest.raises(InputError, match=said):
        list(estimate(people_in(1), frame_of, refuse, runner=runner))
