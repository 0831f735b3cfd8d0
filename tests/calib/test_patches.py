"""Patches times matrices are what torch's convolutions compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posert.calib.patches import gather, matrices, phases


def outputs(node, weights, image):
    """By phase: (positions, their patches times the matrix of each group, stacked by output channel)."""
    found = []
    for phase in phases(node, weights.shape[2:], image.shape[1:]):
        everywhere = np.arange(phase.size[0] * phase.size[1])
        parts = []
        for channels, index in matrices(node, weights, phase):
            matrix = weights[index]
            patches = gather(image[channels], phase, everywhere)
            parts.append(patches @ matrix.reshape(len(matrix), -1).T)
        found.append((phase, np.concatenate(parts, axis=1).T.reshape(-1, *phase.size)))
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_convolutions(data):
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    limits = ((1, 3), (1, 2), (0, 3))
    stride, dilation, pad = (data.draw(st.tuples(st.integers(a, b), st.integers(a, b))) for a, b in limits)
    groups, seed = data.draw(st.sampled_from([1, 2, 3])), data.draw(st.integers(0, 9))
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((6, 11, 12)).astype(np.float32)
    weights = rng.standard_normal((9, 6 // groups, *kernel)).astype(np.float32)
    if groups == 2:
        weights = weights[:8]
    node = onnx.helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=stride, dilations=dilation, pads=[*pad, *pad], group=groups
    )
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(image)[None], torch.from_numpy(weights), None, stride, pad, dilation, groups
    )[0].numpy()
    ((_, found),) = outputs(node, weights, image)
    assert found == pytest.approx(expected, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_transposed_convolutions(data):
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    kernel = tuple(data.draw(st.integers(s, 5)) for s in stride)
    pad = tuple(data.draw(st.integers(0, k - 1)) for k in kernel)
    groups = data.draw(st.sampled_from([1, 2]))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    image = rng.standard_normal((4, 5, 6)).astype(np.float32)
    weights = rng.standard_normal((4, 3, *kernel)).astype(np.float32)
    node = onnx.helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=stride, pads=[*pad, *pad], group=groups)
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(image)[None], torch.from_numpy(weights), None, stride, pad, 0, groups
    )[0].numpy()
    rest = iter([(y, x) for y in range(stride[0]) for x in range(stride[1])])
    for phase, found in outputs(node, weights, image):
        y, x = next(rest)
        theirs = expected[:, y :: stride[0], x :: stride[1]]
        rows, columns = (min(a, b) for a, b in zip(theirs.shape[1:], phase.size, strict=True))
        assert found[:, :rows, :columns] == pytest.approx(theirs[:, :rows, :columns], abs=1e-4)


def test_padding_that_is_not_written_out_has_no_phases():
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")
    assert phases(node, (3, 3), (8, 8)) is None
    assert phases(onnx.helper.make_node("Conv", ["x", "w"], ["y"]), (3,), (8,)) is None
