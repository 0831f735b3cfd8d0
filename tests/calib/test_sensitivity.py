"""Effect of blocks on keypoints, and the search that leaves the worst of them in float."""

from __future__ import annotations

import numpy as np
import pytest

from posert.calib.graph import Graph
from posert.calib.placement import place
from posert.calib.qdq import quantize
from posert.calib.ranges import collect
from posert.calib.search import Measurement, find_float_blocks
from posert.calib.sensitivity import Block, block_sensitivity, infer, keypoint_loss
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import GateError


@pytest.fixture
def contract():
    coco = dataset("coco")
    return Contract("coco", coco.keypoints, coco.flip_pairs, coco.skeleton, coco.sigmas, 32, 32, 16, 16, decode="none")


def peaks(xy, score=1.0):
    maps = np.zeros((len(xy), 17, 16, 16), np.float32)
    for i, (x, y) in enumerate(xy):
        maps[i, :, y, x] = score
    return (maps,)


def test_keypoint_loss_is_one_minus_oks(contract):
    reference = peaks([(5, 5), (9, 4)])
    assert keypoint_loss(reference, reference, contract) == 0
    moved = peaks([(6, 5), (9, 4)])
    area = 32 * 32 / 1.25**2 * 0.53
    oks = np.exp(-(2.0**2) / (2 * area * (2 * np.array(contract.sigmas)) ** 2))
    assert keypoint_loss(moved, reference, contract) == pytest.approx((1 - oks).mean() / 2, rel=1e-6)


def test_joints_without_sigmas_are_ranked_too(contract):
    plain = Contract(**{**vars(contract), "sigmas": ()})
    reference, near, far = peaks([(5, 5), (9, 4)]), peaks([(6, 5), (9, 4)]), peaks([(9, 5), (9, 4)])
    assert keypoint_loss(reference, reference, plain) == 0
    assert 0 < keypoint_loss(near, reference, plain) < keypoint_loss(far, reference, plain) < 1


def test_joints_that_the_reference_does_not_see_do_not_count(contract):
    reference, moved = peaks([(5, 5), (9, 4)]), peaks([(5, 5), (2, 12)])
    reference[0][1] *= -1
    assert keypoint_loss(moved, reference, contract) == 0
    assert keypoint_loss(moved, (np.zeros_like(reference[0]),), contract) > 0, "nothing seen at all: every joint counts"


def test_the_broken_block_is_the_worst_and_the_search_leaves_it_in_float(build, crops, contract):
    model = build("deconv", size=32)
    ranges = collect(model, [crops], place(Graph(model)).tensors)
    # a range a hundred times too wide leaves two levels of this tensor
    wide = ranges["relu2.out"]
    ranges["relu2.out"] = type(wide)(wide.lo * 100, wide.hi * 100)
    seen = []
    coarse = Contract(**{**vars(contract), "heatmap_width": 32, "heatmap_height": 32})
    blocks = block_sensitivity(model, ranges, crops, coarse, progress=lambda done, total: seen.append((done, total)))
    layers = ["conv0", "conv1", "convtranspose0", "convtranspose1", "conv2"]
    assert [b.name for b in blocks] == layers and seen[-1] == (5, 5)
    assert sum(b.macs for b in blocks) == pytest.approx(1)
    worst = max(blocks, key=lambda b: b.loss)
    assert worst.name == "convtranspose1" and worst.loss > 10 * sorted(b.loss for b in blocks)[-2]
    reference = infer(model, crops)

    def measure(nodes):
        result = quantize(model, ranges, float_nodes=nodes, unsigned=True).model
        return Measurement(keypoint_loss(infer(result, crops), reference, coarse))

    found = find_float_blocks(blocks, measure, max_drop=0.5 * worst.loss)
    assert found.best.float_nodes == ("convtranspose1",)
    assert [s.blocks for s in found.curve] == [(), ("convtranspose1",)]
    assert found.curve[0].measured.drop > 0.5 * worst.loss >= found.best.measured.drop


def blocks_of(losses):
    return [Block(f"b{i}", (f"b{i}.conv", f"b{i}.add"), 1 / len(losses), loss) for i, loss in enumerate(losses)]


@pytest.mark.parametrize("needed", range(12))
def test_search_finds_the_smallest_number_in_few_measurements(needed):
    losses = np.random.default_rng(needed).permutation(np.arange(1.0, 13.0))
    blocks = blocks_of(losses)
    largest = {f"b{i}.conv" for i in np.argsort(-losses)[:needed]}
    calls, told = [], []

    def measure(nodes):
        calls.append(nodes)
        return Measurement(0.0 if largest <= set(nodes) else 1.0)

    found = find_float_blocks(blocks, measure, 0.5, told.append)
    assert len(found.best.blocks) == needed and set(found.best.float_nodes) >= largest
    assert found.best.float_macs == pytest.approx(needed / 12)
    lengths = [len(s.blocks) for s in found.curve]
    assert len(calls) <= 8 and lengths == sorted(lengths) and [s.float_nodes for s in told] == calls


def test_blocks_are_ordered_by_loss_per_mac():
    cheap, dear = Block("a", ("a",), 0.01, 1.0), Block("b", ("b",), 0.5, 2.0)
    other = Block("c", ("c",), 0.49, 0.0)
    found = find_float_blocks([dear, cheap, other], lambda nodes: Measurement(0.0 if nodes else 1.0), 0.5)
    assert found.best.float_nodes == ("a",)


def test_a_dear_block_that_alone_is_to_blame_is_left_in_float_alone():
    """By loss per operation it comes last, behind eleven cheap blocks that do not matter."""
    cheap = [Block(f"b{i}", (f"b{i}",), 0.001, 0.01) for i in range(11)]
    guilty = Block("guilty", ("guilty",), 0.3, 1.0)
    rest = Block("rest", ("rest",), 0.6, 0.0)
    found = find_float_blocks([*cheap, rest, guilty], lambda nodes: Measurement(0.0 if "guilty" in nodes else 1.0), 0.5)
    assert found.best.blocks == ("guilty",)


def test_measured_time_decides_what_is_cheap_and_noise_does_not():
    blocks = [Block("slow", ("slow",), 0.1, 1.0), Block("quick", ("quick",), 0.2, 0.9), Block("c", ("c",), 0.7, 0.0)]

    def measure(times):
        def seen(nodes):
            held = "quick" in nodes
            return Measurement(0.0 if held else 1.0, None, times[len(nodes)])

        return seen

    # by price and by loss: (slow), (slow, quick)
    assert find_float_blocks(blocks, measure({0: 5.0, 1: 6.0, 2: 7.0}), 0.5).best.blocks == ("slow", "quick")
    alone = [Block("a", ("a",), 0.1, 0.9), Block("b", ("b",), 0.2, 1.0), Block("c", ("c",), 0.7, 0.0)]

    def timed(ms_of_both):
        table = {
            (): Measurement(1.0, None, 5.0),
            ("a",): Measurement(1.0, None, 5.5),
            ("b",): Measurement(0.0, None, 6.0),
        }
        return lambda nodes: table.get(nodes, Measurement(0.0, None, ms_of_both))

    assert find_float_blocks(alone, timed(7.0), 0.5).best.blocks == ("b",)
    assert find_float_blocks(alone, timed(5.2), 0.5).best.blocks == ("a", "b"), "more in float, and faster"
    assert find_float_blocks(alone, timed(5.95), 0.5).best.blocks == ("b",), "as fast: fewer in float"


@pytest.mark.parametrize("seed", range(20))
def test_what_noise_says_is_never_concluded(seed):
    """The drop does not fall along the order here: the answer is one that was measured, and holds."""
    rng = np.random.default_rng(seed)
    noise = {}

    def measure(nodes):
        drop = float(rng.normal(0.02 / (1 + len(nodes)), 0.005)) if len(nodes) < 22 else 0.0
        return noise.setdefault(nodes, Measurement(drop))

    found = find_float_blocks(blocks_of(range(12)), measure, 0.004)
    assert found.best.measured is noise[found.best.float_nodes] and found.best.measured.drop <= 0.004
    assert len(noise) <= 16


def test_a_target_that_cannot_be_met_says_how_near_it_came():
    with pytest.raises(GateError, match=r"within 0.001.*loses 0.01, with 4 of 5 blocks.*--max-drop"):
        find_float_blocks(blocks_of([5, 4, 3, 2, 1]), lambda nodes: Measurement(0.05 / (1 + len(nodes) / 2)), 0.001)


def test_the_search_obeys_the_drift_too() -> None:
    """The drop holds at once; the joints keep still only with two blocks in float."""
    blocks = blocks_of([5, 4, 3, 2, 1])

    def measure(nodes: tuple[str, ...]) -> Measurement:
        return Measurement(0.0, None, None, 5.0 - len(nodes))  # two nodes a block

    assert find_float_blocks(blocks, measure, 0.001).best.blocks == ()
    assert len(find_float_blocks(blocks, measure, 0.001, max_drift=1.0).best.blocks) == 2
    with pytest.raises(GateError, match=r"95 % of the joints within 0.5 px.*moves them by 2 px.*--max-drift"):
        find_float_blocks(blocks, lambda nodes: Measurement(0.0, None, None, 2.0), 0.001, max_drift=0.5)
    with pytest.raises(GateError, match="AP drop.*--max-drop"):
        find_float_blocks(blocks, lambda nodes: Measurement(0.1, None, None, 2.0), 0.001, max_drift=0.5)
