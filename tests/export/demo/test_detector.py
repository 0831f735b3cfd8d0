"""The demo's detector finds people in pictures and clips that it has not seen, in float and int8, in every engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from posert.export.demo import detector, people, videos
from posert.export.demo.letterbox import HEIGHT, PADDING, STRIDES, WIDTH, letterbox
from posert.export.demo.people import Annotation, Image
from posert.export.demo.scenarios import scene
from posert.export.demo.training.detections import average_precision
from posert.runtime.errors import InputError

Labelled = tuple[list[Image], list[list[Annotation]]]
Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]

CELLS = sum((HEIGHT // stride) * (WIDTH // stride) for stride in STRIDES)
MOST_BYTES = 2_000_000


@pytest.fixture(scope="module", params=detector.PRECISIONS)
def graph(request: pytest.FixtureRequest, graphs: dict[str, Path]) -> Path:
    return graphs[request.param]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detector")
    paths = {name: folder / f"{name}.onnx" for name in detector.PRECISIONS}
    detector.write(paths["fp32"])
    onnx.save(detector.quantized(onnx.load(paths["fp32"])), paths["int8"])
    return paths


@pytest.fixture(scope="module")
def pictures() -> Labelled:
    """50 generated pictures of the held-out split."""
    found = [people.render("val", index) for index in range(50)]
    return [image for image, _ in found], [several for _, several in found]


@pytest.fixture(scope="module")
def frames() -> Labelled:
    """Of every held-out clip of twenty three frames."""
    found = [videos.render(scene("val", index), frame) for index in range(20) for frame in (10, 45, 80)]
    return [image for image, _ in found], [several for _, several in found]


def in_onnxruntime(path: Path) -> Infer:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def in_openvino(path: Path) -> Infer:
    import openvino

    model = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: np.array(model(images)[0])


def inputs(images: list[Image]) -> Iterator[NDArray[np.float32]]:
    for image in images:
        yield np.ascontiguousarray(letterbox(image)[0].transpose(2, 0, 1)[None], np.float32)


def test_it_finds_people_in_held_out_pictures(graph: Path, pictures: Labelled) -> None:
    assert average_precision(in_onnxruntime(graph), *pictures)["AP50"] >= 0.9


def test_it_finds_people_in_held_out_clips(graph: Path, frames: Labelled) -> None:
    # Where people cross, some are nearly hidden: those without a labelled joint need not be found.
    assert average_precision(in_onnxruntime(graph), *frames)["AP50_labelled"] >= 0.9


def test_engines_agree(graphs: dict[str, Path], pictures: Labelled) -> None:
    one, other = (engine(graphs["fp32"]) for engine in (in_onnxruntime, in_openvino))
    # In strides and probabilities; sums of float32 in another order.
    assert all(np.abs(one(x) - other(x)).max() < 1e-3 for x in inputs(pictures[0][:4]))


def test_int8_in_openvino(graphs: dict[str, Path], pictures: Labelled) -> None:
    assert average_precision(in_openvino(graphs["int8"]), *pictures)["AP50"] >= 0.9


def test_it_is_small_and_of_yolox_layout(graph: Path) -> None:
    model = onnx.load(graph)
    assert graph.stat().st_size < MOST_BYTES
    assert Path(detector.__file__).with_name("demo_detector.safetensors").stat().st_size < MOST_BYTES
    shapes = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["N", 3, HEIGHT, WIDTH], "output": ["N", CELLS, 6]}
    assert ({"QuantizeLinear"} <= {node.op_type for node in model.graph.node}) == (graph.stem == "int8")


def test_pictures_of_a_batch_do_not_touch_each_other(graph: Path, pictures: Labelled) -> None:
    infer, some = in_onnxruntime(graph), list(inputs(pictures[0][:3]))
    together = infer(np.concatenate(some))
    for row, x in zip(together, some, strict=True):
        # Batches are cut into other pieces; in int8 a sum near a boundary may fall on the other side.
        assert np.abs(row - infer(x)[0]).max() < (1e-3 if graph.stem == "fp32" else 0.3)


def test_an_empty_picture_has_nobody(graph: Path) -> None:
    grey = np.full((1, 3, HEIGHT, WIDTH), PADDING, np.float32)
    answers = in_onnxruntime(graph)(grey)
    assert np.isfinite(answers).all() and (answers[..., 4] * answers[..., 5]).max() < 0.3


@pytest.mark.slow
def test_the_same_bytes_every_time(tmp_path: Path, graphs: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "posert.export.demo.detector", "--output", str(tmp_path / "d.onnx")]
    subprocess.run([*command, "--precision", "int8"], check=True, capture_output=True)
    assert (tmp_path / "d.onnx").read_bytes() == graphs["int8"].read_bytes()


def test_an_unknown_precision() -> None:
    with pytest.raises(InputError, match="precision 'int4'"):
        detector.graph("int4")


def test_the_letterbox() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    filled, scale = letterbox(picture)
    assert scale == 1 and np.array_equal(filled[:240], picture) and (filled[240:] == PADDING).all()
    filled, scale = letterbox(np.zeros((360, 480, 3), np.uint8))
    assert scale == pytest.approx(2 / 3) and (filled[:240] == 0).all() and (filled[240:] == PADDING).all()
    filled, scale = letterbox(np.zeros((512, 100, 3), np.uint8))
    assert scale == 0.5 and (filled[:, :50] == 0).all() and (filled[:, 50:] == PADDING).all()
