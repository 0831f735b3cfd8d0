"""Which file is taken for what, and what is refused: with its shapes, and with how to name a layout."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from posert.runtime.detection import LAYOUTS, Detector
from posert.runtime.errors import BackendError, DetectorError, InputError

Give = Callable[..., bytes]
CELLS = 336  # of an input of 128x128
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


def logits(classes: int) -> dict[str, Any]:
    return {"logits": zeros(1, 20, classes), "pred_boxes": zeros(1, 20, 4)}


def spread(classes: int) -> Any:
    """YOLOX's output with decoded boxes."""
    output = zeros(1, CELLS, 5 + classes)
    output[0, :, 0] = np.linspace(4, 124, CELLS)
    return output


NMS_INSIDE = {"dets": zeros(1, 7, 5), "labels": zeros(1, 7, dtype=np.int64)}
TRIPLE = {"labels": zeros(1, 9, dtype=np.int64), "boxes": zeros(1, 9, 4), "scores": zeros(1, 9)}
SIZES = {"orig_target_sizes": (INT64, (1, 2))}


@pytest.mark.parametrize(
    ("layout", "outputs", "settings"),
    [
        ("mmdeploy_yolox", NMS_INSIDE, {"mentions": "bbox_head.multi_level_conv_obj.0.weight"}),
        ("mmdeploy_rtmdet", NMS_INSIDE, {"mentions": "bbox_head.rtm_cls.0.weight"}),
        ("yolox", {"output": zeros(1, CELLS, 85)}, {}),
        ("yolox", {"output": zeros(1, CELLS + 4, 6)}, {}),  # P6
        ("yolox_decoded", {"output": spread(1)}, {}),
        ("ultralytics", {"output0": zeros(1, 84, CELLS)}, {}),
        ("ultralytics", {"output0": zeros(1, 5, CELLS)}, {"metadata": {"task": "detect", "names": "{0: 'person'}"}}),
        ("ultralytics", {"output0": zeros(1, 84, 1360)}, {}),  # P2
        ("ultralytics_end2end", {"output0": zeros(1, 300, 6)}, {}),
        ("ultralytics_end2end", {"output0": zeros(1, CELLS, 6)}, {"metadata": {"task": "detect"}}),
        ("rtdetr", TRIPLE, {"others": SIZES}),
        ("rtdetr_transformers", logits(80), {"mentions": "model.enc_score_head.bias"}),
        ("detr", logits(92), {"mentions": "class_labels_classifier.bias"}),
        ("detr", logits(92), {"others": {"pixel_mask": (INT64, (1, 64, 64))}}),
    ],
)
def test_recognised(layout: str, outputs: Any, settings: Any, give: Give, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "posert"):
        detector = Detector(give(outputs, **settings))
    assert detector.layout.name == layout
    assert caplog.messages == [detector.description]  # said aloud, once
    for part in (layout, "128x128", detector.backend, "score above 0.5"):
        assert part in detector.description
    black = np.zeros((50, 70, 3), np.uint8)
    assert len(detector(black)) == 0 or layout == "detr"


@pytest.mark.parametrize(
    ("outputs", "settings", "message"),
    [
        ({"logits": zeros(1, 1000)}, {}, r"it may be a classifier.*logits \(1, 1000\) float32"),
        ({"out": zeros(1, 21, 32, 32)}, {}, r"it may be a network for segmentation.*out \(1, 21, 32, 32\)"),
        (
            {"output0": zeros(1, 116, CELLS), "output1": zeros(1, 32, 32, 32)},
            {"metadata": {"task": "segment"}},
            "its task is 'segment', so export a model for detection",
        ),
        ({"output0": zeros(1, 56, CELLS)}, {"metadata": {"task": "pose"}}, "its task is 'pose'"),
        ({"output": zeros(1, 3 * CELLS, 85)}, {}, r"none of the detectors.*output \(1, 1008, 85\)"),  # YOLOv5, YOLOv7
        ({"output0": zeros(1, 300, 84)}, {}, "none of the detectors"),  # RT-DETR of ultralytics
        (TRIPLE, {}, "none of the detectors"),  # in which px are the boxes?
        ({"dets": zeros(1, 7, 5), "labels": zeros(1, 7), "masks": zeros(1, 7, 28, 28)}, {}, "segmentation"),
    ],
)
def test_none_fits(outputs: Any, settings: Any, message: str, give: Give) -> None:
    with pytest.raises(DetectorError, match=f"(?s){message}") as caught:
        Detector(give(outputs, **settings))
    assert all(f"  {name}: " in str(caught.value) for name in LAYOUTS.names())


@pytest.mark.parametrize(
    ("outputs", "layouts"),
    [
        (NMS_INSIDE, ("mmdeploy_rtmdet", "mmdeploy_yolox")),
        (logits(80), ("detr", "rtdetr_transformers")),
        ({"output": zeros(1, CELLS, CELLS)}, ("ultralytics", "yolox")),
    ],
)
def test_several_fit(outputs: Any, layouts: tuple[str, ...], give: Give) -> None:
    model = give(outputs)
    with pytest.raises(DetectorError, match="one of several kinds; name the one that it is") as caught:
        Detector(model, classes=None)
    assert all(f"layout={name!r}" in str(caught.value) for name in layouts) and "128x128" in str(caught.value)
    assert Detector(model, layout=layouts[0], classes=None).layout.name == layouts[0]


def test_a_named_layout_that_cannot_read_it(give: Give) -> None:
    with pytest.raises(DetectorError, match=r"layout 'detr' .* cannot read this graph.*output0 \(1, 84, 336\)"):
        Detector(give({"output0": zeros(1, 84, CELLS)}), layout="detr")
    with pytest.raises(DetectorError, match="unknown detector layout 'yolo'. Did you mean yolox"):
        Detector(give({"output0": zeros(1, 84, CELLS)}), layout="yolo")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (8, 3, 128, 128)}, "takes 8 pictures at a time"),
        ({"shape": (1, 1, 128, 128)}, "expected 3 channels"),
        ({"dtype": onnx.TensorProto.DOUBLE}, "float64; expected float32, float16, uint8"),
        ({"others": {"im_shape": (FLOAT, (1, 2))}}, "the input im_shape .1, 2. float32 beside its picture"),
        ({"shape": (1, 128)}, "expected one picture"),
    ],
)
def test_inputs_that_are_refused(settings: Any, message: str, give: Give) -> None:
    with pytest.raises(DetectorError, match=message):
        Detector(give({"output0": zeros(1, 84, CELLS)}, **settings))


class TestSizes:
    OPEN = (1, 3, "h", "w")

    def test_of_the_file(self, give: Give) -> None:
        detector = Detector(give({"output": zeros(1, 84, CELLS)}), size=128)
        assert "input 128x128" in detector.description
        with pytest.raises(DetectorError, match=r"size=\(64, 64\) \(height, width\).*\(1, 3, 128, 128\)"):
            Detector(give({"output": zeros(1, 84, CELLS)}), size=64)

    def test_that_the_file_leaves_open(self, give: Give) -> None:
        model = give({"output": zeros(1, 84, CELLS)}, shape=self.OPEN)
        assert "input 128x128" in Detector(model, size=128).description
        assert (
            "input 256x64" in Detector(give({"output": zeros(1, 84, 336)}, shape=self.OPEN), size=(64, 256)).description
        )
        with pytest.raises(DetectorError, match="for a picture of 640x640"):
            Detector(model)

    def test_that_ultralytics_recommends(self, give: Give) -> None:
        model = give({"output0": zeros(1, 84, CELLS)}, shape=self.OPEN, metadata={"imgsz": "[256, 64]"})
        assert "input 64x256" in Detector(model).description

    def test_that_are_none(self, give: Give) -> None:
        with pytest.raises(DetectorError, match="expected a height and a width"):
            Detector(give({"output": zeros(1, 84, CELLS)}, shape=self.OPEN), size=0)

    def test_that_would_take_the_memory(self, give: Give) -> None:
        for shape in ((1, 3, 1 << 31, 32), (1, 3, 4097, 4096)):
            with pytest.raises(DetectorError, match="expected at most 16777216 px"):
                Detector(give({"output": zeros(1, 84, CELLS)}, shape=shape), backend="onnxruntime")
        masks = {"pixel_mask": (INT64, (1, 1 << 31, 64))}
        with pytest.raises(DetectorError, match="pixel_mask is .* expected at most"):
            Detector(give(logits(92), others=masks), backend="onnxruntime")


class TestClasses:
    NAMES = {"names": "{0: 'cat', 1: 'Person', 2: \"it's\"}", "task": "detect"}

    def test_by_name(self, give: Give) -> None:
        model = give({"output0": zeros(1, 7, CELLS)}, metadata=self.NAMES)
        detector = Detector(model)
        assert detector.label == 1 and "class 1 (Person) of 3" in detector.description
        assert Detector(model, classes="cat").label == 0 and Detector(model, classes=2).label == 2
        assert Detector(model, classes=None).label is None

    def test_by_the_number_of_classes(self, give: Give) -> None:
        for count, person in ((1, 0), (80, 0), (91, 1), (365, 0)):
            assert Detector(give({"output0": zeros(1, 4 + count, CELLS)}), layout="ultralytics").label == person
        assert Detector(give(logits(92), mentions="class_labels_classifier")).label == 1
        assert Detector(give(NMS_INSIDE, mentions="rtm_cls")).label == 0

    @pytest.mark.parametrize("classes", ["dog", 3, -1])
    def test_that_there_are_not(self, classes: str | int, give: Give) -> None:
        with pytest.raises(
            DetectorError, match="unknown class 'dog'|classes=-?[13]; the detector's classes are 0 to 2"
        ):
            Detector(give({"output0": zeros(1, 7, CELLS)}, metadata=self.NAMES), classes=classes)

    def test_without_names(self, give: Give) -> None:
        with pytest.raises(DetectorError, match="give the number of 'person', such as classes=0, one of 0 to 2"):
            Detector(give({"output0": zeros(1, 7, CELLS)}))
        with pytest.raises(DetectorError, match="give the number of 'dog'"):
            Detector(give({"output0": zeros(1, 84, CELLS)}), classes="dog")

    @pytest.mark.parametrize("names", ["not a literal", "{0: 1}", "7", "['person', 'dog', 'cat']"])
    def test_odd_names(self, names: str, give: Give) -> None:
        model = give({"output0": zeros(1, 5, CELLS)}, metadata={"names": names})
        assert Detector(model).label == 0


class TestFiles:
    def test_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"yolo.onnx: there is no such file"):
            Detector(tmp_path / "yolo.onnx")
        (tmp_path / "yolo11n.pt").write_bytes(b"PK\3\4 weights")
        with pytest.raises(InputError, match=r"yolo11n.pt: expected an ONNX file"):
            Detector(tmp_path / "yolo11n.pt")
        with pytest.raises(DetectorError, match="the detector: cannot be read as ONNX"):
            Detector(b"no graph")

    @pytest.mark.parametrize("given", ["bytes", "a file"])
    def test_a_graph_that_reads_itself(self, given: str, give: Give, tmp_path: Path) -> None:
        """OpenVINO would look for its beginning for ever."""
        model = onnx.load_from_string(give({"output": zeros(1, 84, CELLS)}))
        model.graph.node[1].input[0] = model.graph.node[-1].output[0]
        (tmp_path / "loop.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(DetectorError, match=r"read as ONNX: its operator \w+ reads '\w+' before anything"):
            Detector(model.SerializeToString() if given == "bytes" else tmp_path / "loop.onnx")

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
    def test_operators_of_another_domain(self, backend: str) -> None:
        """As TRTBatchedNMS of mmdeploy's exports for TensorRT."""
        from onnx import helper

        node = helper.make_node("TRTBatchedNMS", ["images"], ["dets"], domain="mmdeploy")
        values = [helper.make_tensor_value_info(n, FLOAT, (1, 3, 64, 64)) for n in ("images", "dets")]
        graph = helper.make_graph([node], "g", values[:1], values[1:])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mmdeploy", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        with pytest.raises(BackendError, match="(?s)TRTBatchedNMS.* Another backend may run it"):
            Detector(model.SerializeToString(), backend=backend)

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
    def test_weights_beside_the_graph(self, backend: str, tmp_path: Path, give: Give) -> None:
        """As torch.onnx.export writes them by default."""
        output = zeros(1, 84, CELLS)
        output[0, :5, 7] = (60, 70, 20, 30, 0.9)
        model = onnx.load_from_string(give({"output0": output}))
        onnx.save(model, tmp_path / "yolo.onnx", save_as_external_data=True, location="yolo.onnx.data")
        assert len(Detector(tmp_path / "yolo.onnx", backend=backend)(np.zeros((128, 128, 3), np.uint8))) == 1

    def test_backends(self, give: Give) -> None:
        model = give({"output0": zeros(1, 84, CELLS)})
        with pytest.raises(BackendError, match="'torchscript' does not run detectors; these can here: openvino"):
            Detector(model, backend="torchscript")
        with pytest.raises(BackendError, match="unknown backend 'openvno'"):
            Detector(model, backend="openvno")

    @pytest.mark.parametrize("bad", [{"score": 1}, {"score": -0.1}, {"nms": 0}, {"nms": 1.5}, {"threads": 0}])
    def test_numbers_out_of_range(self, bad: Any, give: Give) -> None:
        with pytest.raises(InputError, match="expected"):
            Detector(give({"output0": zeros(1, 84, CELLS)}), **bad)

    @pytest.mark.parametrize("bad", [{"color": "grb"}, {"placement": "left"}, {"scale": 0}, {"std": (0, 1, 1)}])
    def test_overrides_that_are_none(self, bad: Any, give: Give) -> None:
        with pytest.raises(DetectorError, match=f"{next(iter(bad))}=.*expected"):
            Detector(give({"output0": zeros(1, 84, CELLS)}), **bad)


def test_a_layout_from_another_package(install_plugin: Callable[..., Path], give: Give) -> None:
    """The example of docs/detectors.md, installed."""
    text = (Path(__file__).parents[3] / "docs" / "detectors.md").read_text(encoding="utf-8")
    code = text.rpartition("```python\n")[2].partition("```")[0]
    install_plugin("posert-plain", code, "posert.detectors", plain="posert_plain:LAYOUT")
    assert "plain" in LAYOUTS.names() and LAYOUTS.plugin_failures() == {}
    boxes = np.array([[[10, 20, 30, 40], [50, 60, 70, 80]]], np.float32)
    detector = Detector(give({"box": boxes, "score": np.array([[0.2, 0.7]], np.float32)}))
    assert detector.layout.name == "plain" and detector.label == 0
    np.testing.assert_allclose(detector(np.zeros((128, 256, 3), np.uint8)).boxes, [[100, 60, 140, 80]])


def test_a_layout_that_does_not_import(install_plugin: Callable[..., Path], give: Give) -> None:
    """It stops no other."""
    install_plugin("posert-plain", "import no_such_library", "posert.detectors", plain="posert_plain:LAYOUT")
    assert Detector(give({"output0": zeros(1, 84, CELLS)})).layout.name == "ultralytics"
    assert "posert.detectors: plain (posert-plain)" in LAYOUTS.plugin_failures()
