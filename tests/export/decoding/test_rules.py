"""Graphs that give keypoints against the decode rules of the runtime, in two libraries and two operator sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from posert.benchmarks.decoding import blobs, contract_of, decoder
from posert.export.decoding import OUTPUT, RULES, check_rule, px_per_cell, with_keypoints
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError
from posert.runtime.pose.decode import decode, to_frame
from posert.runtime.pose.heads import HEADS, Outputs
from posert.runtime.pose.preprocess import crop_matrices

MEGVII = ("megvii", "megvii_original")
COMBINED = ("udp_combined", "udp_heatmap_combined")
SIMCC = ("simcc", "simcc_dark")
OPSETS = (17, 19)
PX = 1e-3  # of the crop: what the arithmetic in float32 may move a joint by
SCORE = 2e-6  # relative: of scores that are blurred; all others are equal
# Of the highest value: what float32 changes in a map that is blurred. A blur's 22 products and sums round by 1.3e-6 at
# most, and noise that is laid on the map before the blur has a tenth of its size after it.
ROUNDING = 10 * 22 * 2.0**-24


def graph_of(contract: Contract, opset: int) -> bytes:
    return bytes(decoder(contract, opset).SerializeToString())


def in_onnxruntime(graph: bytes, outputs: Outputs, optimised: bool = True) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run([OUTPUT], dict(zip(names, outputs, strict=True)))[0]


def in_openvino(graph: bytes, outputs: Outputs) -> NDArray[np.float32]:
    core = ov.Core()
    # left to itself it computes in bfloat16 where the CPU can, which has three digits
    compiled = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(list(outputs))[0])


RUNTIMES: dict[str, Callable[[bytes, Outputs], NDArray[np.float32]]] = {
    "onnxruntime": in_onnxruntime,
    "as written": lambda graph, outputs: in_onnxruntime(graph, outputs, optimised=False),
    "openvino": in_openvino,
}


def outside(outputs: Outputs, contract: Contract) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Joints in px of the crop, and scores, by the runtime's rule."""
    xy, score = decode(outputs, contract)
    return xy.astype(np.float64) * px_per_cell(contract), score


def is_settled(outputs: Outputs, contract: Contract) -> NDArray[np.bool_]:
    """Joints `(N, K)` that the rule itself does not move when the outputs change by as little as float32 rounds them.

    Where two cells are equal up to that, or a Newton step divides by next to nothing, there is no answer to agree on.
    """
    rng = np.random.default_rng(5)
    first = outside(outputs, contract)[0]
    settled = np.ones(first.shape[:2], bool)
    for _ in range(6):
        noise = (rng.uniform(-1, 1, o.shape) * ROUNDING * np.abs(o).max(axis=tuple(range(2, o.ndim)), keepdims=True)
                 for o in outputs)  # fmt: skip
        moved = outside(tuple((o + d).astype(np.float32) for o, d in zip(outputs, noise, strict=True)), contract)[0]
        settled &= np.abs(moved - first).max(axis=2) < PX
    return settled


def outputs_of(maps: NDArray[np.float32], rule: str) -> Outputs:
    return (maps.max(axis=2), maps.max(axis=3)) if rule in SIMCC else (maps,)


def check(outputs: Outputs, contract: Contract, graph: bytes, runtime: str, unsettled: float) -> None:
    """Compare all joints that are settled; of the others there is at most a share of `unsettled`."""
    found = RUNTIMES[runtime](graph, outputs)
    xy, score = outside(outputs, contract)
    settled = is_settled(outputs, contract)
    assert found.shape == (*score.shape, 3) and found.dtype == np.float32
    assert 1 - settled.mean() <= unsettled
    error = np.abs(found[..., :2] - xy).max(axis=2)
    assert error[settled].max() <= PX, np.argwhere(settled & (error > PX))[:5]
    if contract.decode in (*MEGVII, *COMBINED):
        # A joint that is not settled may be at another cell, which has another score.
        np.testing.assert_allclose(found[..., 2][settled], score[settled], rtol=SCORE, atol=SCORE)
    else:
        np.testing.assert_array_equal(found[..., 2], score)


def test_every_rule_has_a_graph_form() -> None:
    assert RULES.names() == HEADS.names()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("rule", RULES.names())
def test_blobs(rule: str, opset: int, runtime: str) -> None:
    joints, kernel = 5, 5 if rule in MEGVII else 11
    rng = np.random.default_rng(7)
    maps = blobs(rng, 24, joints * (3 if rule in COMBINED else 1), 64, 48) * np.float32(255 if rule in MEGVII else 1)
    for changes in ({}, {"udp": True}, {"udp": True, "heatmap_udp": False}):
        contract = contract_of(rule, joints, 64, 48, kernel, **changes)
        check(outputs_of(maps, rule), contract, graph_of(contract, opset), runtime, unsettled=0.05)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("rule", RULES.names())
def test_goldens(rule: str, runtime: str, golden_heatmaps: Callable[..., Any], golden_combined: Any) -> None:
    """What the published pipelines were recorded on: merging peaks, broad blobs, equal cells, empty maps."""
    if rule in COMBINED:
        sets = [(golden_combined, 11)]
    else:
        amplitude = 255 if rule in MEGVII else 1
        names = {"coco_64x48": 11, "coco_96x72": 17, "mpii_64x64": 11}
        sets = [(golden_heatmaps(name, amplitude), 5 if rule in MEGVII else k) for name, k in names.items()]
    for maps, kernel in ((maps[:16], kernel) for maps, kernel in sets):
        joints = maps.shape[1] // (3 if rule in COMBINED else 1)
        contract = contract_of(rule, joints, *maps.shape[2:], kernel)
        check(outputs_of(maps, rule), contract, graph_of(contract, 17), runtime, unsettled=0.3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("rule", ["none", "default", "msra", "hourglass", "simcc"])
def test_of_equal_cells_the_first_is_taken(rule: str, runtime: str) -> None:
    rng = np.random.default_rng(3)
    maps = rng.integers(0, 3, (8, 4, 12, 9)).astype(np.float32) / 2  # each value is there many times
    contract = contract_of(rule, 4, 12, 9)
    outputs = outputs_of(maps, rule)
    found = RUNTIMES[runtime](graph_of(contract, 17), outputs)
    np.testing.assert_array_equal(found[..., :2], outside(outputs, contract)[0])


@given(
    rule=st.sampled_from(RULES.names()),
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(14, 40), st.integers(14, 40)),
    udp=st.tuples(st.booleans(), st.sampled_from([None, False, True])),
    kernel=st.sampled_from([1, 3, 5, 9, 13]),
)
def test_any_map(rule: str, seed: int, size: tuple[int, int], udp: tuple[bool, bool | None], kernel: int) -> None:
    """Noise, spikes and plateaus: what a damaged or untrained network gives."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(0, 1, (3, 6, *size)).astype(np.float32)
    maps[1] = np.round(maps[1], 1)
    maps[2, :, size[0] // 2, size[1] // 2] = 40
    joints = 2 if rule in COMBINED else 6
    contract = contract_of(rule, joints, *size, kernel, udp=udp[0], heatmap_udp=udp[1])
    check(outputs_of(maps, rule), contract, graph_of(contract, 17), "onnxruntime", unsettled=1)


@given(
    udp=st.booleans(),
    map_udp=st.booleans(),
    center=st.tuples(st.floats(-50, 500), st.floats(-50, 500)),
    size=st.floats(20, 400),
)
def test_px_of_the_crop_are_those_that_the_crop_is_cut_by(
    udp: bool, map_udp: bool, center: tuple[float, float], size: float
) -> None:
    """Back through the matrix of the crop, joints come to the place in the frame that the runtime gives."""
    contract = contract_of("none", 1, 16, 12, udp=udp, heatmap_udp=map_udp)
    cells = np.array([[[3.25, 7.5], [0, 0], [11, 15]]], np.float32)
    extent = np.array([[contract.width, contract.height]]) * size / contract.width  # of the shape of the crop
    where = np.array([center], np.float32), extent.astype(np.float32)
    expected = to_frame(cells, *where, 12, 16, contract.map_udp)[0]
    to_crop = np.asarray(crop_matrices(*where, contract.width, contract.height, udp)[0], np.float64).reshape(2, 3)
    px = np.c_[cells[0].astype(np.float64) * px_per_cell(contract), np.ones(3)]
    back = np.linalg.inv(np.r_[to_crop, [[0, 0, 1]]])[:2]
    np.testing.assert_allclose(px @ back.T, expected, atol=1e-3, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES.names())
def test_tensorrt_rtx_builds_it_for_all_targets(rule: str) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    from posert.runtime.engines.builder import Options, build

    targets = ("sm75", "sm86", "sm89", "sm120")
    graph = graph_of(contract_of(rule, 5, 64, 48, 5 if rule in MEGVII else 11), 19)
    assert build(rtx, graph, "fp32", Options(targets=targets)).metadata.devices == targets


def test_rules_without_a_graph_form() -> None:
    with pytest.raises(InputError, match="'mine' has no graph form.*leave --output-kind keypoints out.*default"):
        check_rule(contract_of("mine", 3, 16, 12))
    with pytest.raises(InputError, match="a Gaussian of 13 cells is wider than the map"):
        check_rule(contract_of("udp", 3, 16, 12, kernel=13))


def test_a_graph_of_other_outputs() -> None:
    graph = onnx.load_from_string(graph_of(contract_of("none", 3, 16, 12), 17))
    with pytest.raises(InputError, match="the graph gives keypoints; the rule 'none' reads heatmaps"):
        with_keypoints(graph, contract_of("none", 3, 16, 12))


@pytest.mark.parametrize(
    ("opset", "kind", "message"),
    [
        (7, onnx.TensorProto.FLOAT, "opset 7, .* need 17 or later"),
        (17, onnx.TensorProto.STRING, "do not fit the rule 'none'"),
    ],
)
def test_a_graph_to_which_no_rule_can_be_added(opset: int, kind: int, message: str) -> None:
    given, found = (onnx.helper.make_tensor_value_info(name, kind, ["N", 3, 16, 12]) for name in ("crops", "heatmaps"))
    made = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["crops"], ["heatmaps"])], "g", [given], [found])
    graph = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", opset)])
    with pytest.raises(InputError, match=message):
        with_keypoints(graph, contract_of("none", 3, 16, 12))
