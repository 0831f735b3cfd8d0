"""The flip test against MMPose's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.pose.decode import decode
from posert.runtime.pose.flip import merge


@pytest.mark.parametrize(
    ("name", "channels", "shift"),
    # MMPose has no shift with UDP
    [("coco", 1, False), ("coco", 1, True), ("mpii", 1, False), ("mpii", 1, True), ("combined", 3, False)],
)
def test_mmpose(
    golden: Callable[[str], Any], golden_flip: Callable[[int], Any], name: str, channels: int, shift: bool
) -> None:
    expected = golden("c_flip.npz")[f"{name}_{'shift' if shift else 'noshift'}_merged"]
    joints = dataset("coco" if name == "combined" else name)
    maps = golden_flip(channels * len(joints.keypoints))
    before = maps.copy()
    signs = (1, -1, 1) if channels == 3 else (1,)
    np.testing.assert_array_equal(merge(maps, joints.flip_index, shift, signs), expected)
    np.testing.assert_array_equal(maps, before)


@given(st.integers(0, 2**31))
def test_mirroring_the_crops_mirrors_the_joints(seed: int) -> None:
    rng, joints = np.random.default_rng(seed), dataset("coco")
    crops = rng.integers(0, 256, (2, 16, 12, 3)).astype(np.uint8)
    weights = rng.random((17, 3)).astype(np.float32)
    weights = weights + weights[list(joints.flip_index)]

    def with_mirrored(images: Any) -> Any:
        return np.concatenate([images, images[:, :, ::-1]])

    def network(images: Any) -> Any:
        """A network that treats left and right alike: what it sees of a joint does not depend on its side."""
        return np.einsum("nhwc,kc->nkhw", images.astype(np.float32), weights)

    merged = merge(network(with_mirrored(crops)), joints.flip_index, shift=False)
    np.testing.assert_allclose(merged, network(crops), rtol=1e-5)
    turned = merge(network(with_mirrored(crops[:, :, ::-1])), joints.flip_index, shift=False)
    contract = Contract("coco", joints.keypoints, joints.flip_pairs, (), joints.sigmas, 12, 16, 12, 16, decode="none")
    assert contract.flip_index == joints.flip_index
    xy, score = decode((merged,), contract)
    mirrored_xy, mirrored_score = decode((turned,), contract)
    unique = (merged == merged.max(axis=(2, 3), keepdims=True)).sum(axis=(2, 3)) == 1
    np.testing.assert_array_equal(mirrored_xy[unique][:, 0], 11 - xy[unique][:, 0])
    np.testing.assert_allclose(mirrored_score, score, rtol=1e-5)


def test_maps_that_do_not_fit_are_refused() -> None:
    index = dataset("coco").flip_index
    for shape in ((3, 17, 4, 4), (2, 16, 4, 4), (17, 4, 4)):
        with pytest.raises(InputError, match=r"\(2 \* people, 17, height, width\)"):
            merge(np.zeros(shape, np.float32), index, shift=True)
