"""The networks of make_goldens.py, and the projects' own code around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from make_goldens import CLASSES, Found, exported, ordered, picture, runner, standardise
from onnx import helper, numpy_helper
from torch import nn

from posert.runtime.detection.picture import InputBuffer, Picture

Named = tuple[str, Any, Callable[..., Found]]


class Levels(nn.Module):
    """Feature maps of strides 8, 16 and 32."""

    channels = (8, 12, 16)

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 6, 8, *self.channels)
        self.steps = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(sizes, sizes[1:], strict=False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for step in self.steps:
            x = torch.relu(step(x - x.mean((2, 3), keepdim=True)))
            maps.append(x)
        return maps[2:]


class Cells(nn.Module):
    """Boxes in px, centre and size, and class scores of every cell: what the heads of YOLO networks give.

    `part` is the name of the layers for the class: mmdeploy's layouts are told apart by it.
    """

    def __init__(self, part: str, size: tuple[int, int]) -> None:
        super().__init__()
        self.levels, self.size = Levels(), size
        channels = self.levels.channels
        self.boxes = nn.ModuleList(nn.Conv2d(c, 4, 1) for c in channels)
        self.bbox_head = nn.Module()
        self.classes = nn.ModuleList(nn.Conv2d(c, CLASSES, 1) for c in channels)
        self.bbox_head.add_module(part, self.classes)
        del self.classes
        self.part = part

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = []
        layers = self.bbox_head.get_submodule(self.part)
        for stride, features, box, kind in zip((8, 16, 32), self.levels(x), self.boxes, layers, strict=True):
            height, width = self.size[0] // stride, self.size[1] // stride
            y, x_ = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            raw = box(features)
            centre = (torch.stack([x_, y])[None] + 0.5 + raw[:, :2].tanh()) * stride
            found.append(torch.cat([centre, raw[:, 2:].exp() * stride, kind(features).sigmoid()], 1).flatten(2))
        both = torch.cat(found, 2)
        return both[:, :4], both[:, 4:]


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """xyxy of centres and sizes `(1, 4, A)`, as `(1, A, 4)`."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1).transpose(1, 2)


def runs(network: nn.Module, inputs: list[torch.Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            for x in inputs:
                network(x)

    return run


def scaled(cells: Cells, inputs: list[torch.Tensor]) -> Cells:
    run = runs(cells, inputs)
    for step in cells.levels.steps:  # or the last layers would amplify rounding errors
        standardise([step], 0.0, 1.0, run)
    standardise([*cells.boxes], 0.7, 0.5, run)
    standardise([*cells.bbox_head.get_submodule(cells.part)], -4.0, 2.0, run)
    return cells


class Together(nn.Module):
    """One output of a `Cells`: `(1, 4 + C, A)`, or the best 40 as `(1, 40, 6)`."""

    def __init__(self, cells: Cells, best: bool) -> None:
        super().__init__()
        self.cells, self.best = cells, best

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        boxes, scores = self.cells(x)
        if not self.best:
            return torch.cat([boxes, scores], 1)
        score, label = scores.max(1)
        score, index = score.topk(40, 1)
        chosen = corners(boxes).gather(1, index[..., None].expand(-1, -1, 4))
        return torch.cat([chosen, score[..., None], label.gather(1, index)[..., None].float()], 2)


class Apart(nn.Module):
    """Boxes `(1, A, 4)` xyxy and scores `(1, C, A)`, as NonMaxSuppression reads them."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = self.cells(x)
        return corners(boxes), scores


def yolox() -> Iterator[Named]:
    from yolox.data.data_augment import preproc
    from yolox.models.network_blocks import SiLU
    from yolox.models.yolo_head import YOLOXHead
    from yolox.utils import demo_postprocess, postprocess, replace_module

    size = (128, 160)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels = Levels()
            self.head = YOLOXHead(CLASSES, width=1 / 16, in_channels=[16 * c for c in Levels.channels])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.levels(x / 64))

    network = replace_module(Network(), nn.SiLU, SiLU).eval()
    head = network.head
    inputs = [torch.from_numpy(preproc(picture(seed), size)[0])[None] for seed in range(50)]

    run = runs(network, inputs)
    for step in network.levels.steps:
        standardise([step], 0.0, 1.0, run)
    standardise([*head.reg_preds], 0.7, 0.5, run)
    standardise([*head.obj_preds], -1.3, 1.5, run)
    standardise([*head.cls_preds], 0.5, 2.0, run)
    for name, decoded in (("yolox", False), ("yolox_decoded", True)):
        head.decode_in_inference = decoded
        model = exported(network, (inputs[0],), ["images"], ["output"])
        session = runner(model)

        def reference(
            frame: np.ndarray, score: float, nms: float, gain: float, session: Any = session, decoded: bool = decoded
        ) -> Found:
            x, ratio = preproc(frame, size)
            (output,) = session(x[None] * np.float32(gain))
            rows = output if decoded else demo_postprocess(output, size)
            (found,) = postprocess(torch.from_numpy(rows), CLASSES, score, nms)
            if found is None:
                return ordered(np.empty((0, 4)), np.empty(0), np.empty(0), frame)
            return ordered(found[:, :4] / ratio, found[:, 4] * found[:, 5], found[:, 6], frame)

        yield name, model, reference


def ultralytics() -> Iterator[Named]:
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    size = (160, 128)

    def prepared(frame: np.ndarray) -> np.ndarray:
        placed = LetterBox(size, auto=False, stride=32)(image=frame)
        return np.ascontiguousarray(placed[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255

    inputs = [torch.from_numpy(prepared(picture(seed))) for seed in range(50)]
    cells = scaled(Cells("cv3", size), inputs)
    for name, best in (("ultralytics", False), ("ultralytics_end2end", True)):
        model = exported(Together(cells, best), (inputs[0],), ["images"], ["output0"])
        names = {0: "cat", 1: "person", 2: "dog", 3: "it's", 4: "cow"}
        said = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [*size], "names": names, "end2end": best}
        helper.set_model_props(model, {key: str(value) for key, value in said.items()})
        session = runner(model)

        def reference(frame: np.ndarray, score: float, nms: float, gain: float, session: Any = session) -> Found:
            (output,) = session(prepared(frame) * np.float32(gain))
            (found,) = non_max_suppression(torch.from_numpy(output), score, nms)
            boxes = scale_boxes(size, found[:, :4], frame.shape[:2])
            return ordered(boxes, found[:, 4], found[:, 5], frame)

        yield name, model, reference


def with_nms(model: Any, threshold: float) -> Any:
    """Boxes and scores through NMS to `dets` and `labels`, as mmdeploy's `_multiclass_nms_single` does."""
    constants = {"most": 200, "iou": threshold, "least": 0.05, "one": [1], "two": [2], "axis1": [1], "from1": [1]}
    constants |= {"to3": [3], "axes02": [0, 2], "axis0": [0], "axis2": [2], "none": [[0]], "empty": [[[0.0] * 5]]}
    real = {"iou", "least", "empty"}
    tensors = [
        numpy_helper.from_array(np.array(value, np.float32 if key in real else np.int64), key)
        for key, value in constants.items()
    ]
    node = helper.make_node
    nodes = [
        node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["chosen"]),
        node("Gather", ["chosen", "one"], ["kinds1"], axis=1),
        node("Squeeze", ["kinds1", "axis1"], ["kinds"]),
        node("Gather", ["chosen", "two"], ["places1"], axis=1),
        node("Squeeze", ["places1", "axis1"], ["places"]),
        node("Gather", ["boxes", "places"], ["rows"], axis=1),
        node("Squeeze", ["scores", "axis0"], ["table"]),
        node("Slice", ["chosen", "from1", "to3", "axis1"], ["pairs"]),
        node("GatherND", ["table", "pairs"], ["values"]),
        node("Unsqueeze", ["values", "axes02"], ["column"]),
        node("Concat", ["rows", "column"], ["some"], axis=2),
        node("Concat", ["some", "empty"], ["all"], axis=1),  # a row of zeros, so that there is one
        node("Unsqueeze", ["kinds", "axis0"], ["kinds0"]),
        node("Concat", ["kinds0", "none"], ["every"], axis=1),
        node("Slice", ["all", "four", "five", "axis2"], ["last"]),
        node("Squeeze", ["last", "axes02"], ["sure"]),
        node("Shape", ["sure"], ["number"]),
        node("TopK", ["sure", "number"], ["top", "order"]),
        node("Gather", ["all", "order"], ["dets"], axis=1),
        node("Gather", ["every", "order"], ["labels"], axis=1),
    ]
    tensors += [numpy_helper.from_array(np.array([n]), key) for n, key in ((4, "four"), (5, "five"))]
    graph = model.graph
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("dets", onnx.TensorProto.FLOAT, [1, "num_dets", 5]),
            helper.make_tensor_value_info("labels", onnx.TensorProto.INT64, [1, "num_dets"]),
        ]
    )
    onnx.checker.check_model(model)
    return model


def mmdeploy() -> Iterator[Named]:
    from mmcv.transforms import Pad, Resize
    from rtmlib.tools.object_detection.yolox import YOLOX as Rtmlib

    mean, std = np.float32([103.53, 116.28, 123.675]), np.float32([57.375, 57.12, 58.395])
    side = 128
    rtmlib = Rtmlib.__new__(Rtmlib)  # without a session: its arithmetic alone
    vars(rtmlib).update(mode="human", nms_thr=0.45, score_thr=0.5, model_input_size=(side, side))

    def prepared(frame: np.ndarray, normalised: bool) -> tuple[np.ndarray, tuple[float, float]]:
        held = Resize(scale=(side, side), keep_ratio=True)({"img": frame})
        held = Pad(size=(side, side), pad_val={"img": (114, 114, 114)})(held)
        image = held["img"].astype(np.float32)
        image = (image - mean) / std if normalised else image
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None]), held["scale_factor"]

    for name, part in (("mmdeploy_yolox", "multi_level_conv_obj"), ("mmdeploy_rtmdet", "rtm_cls")):
        normalised = part == "rtm_cls"
        inputs = [torch.from_numpy(prepared(picture(seed), normalised)[0]) for seed in range(50)]
        cells = scaled(Cells(part, (side, side)), inputs)
        model = with_nms(exported(Apart(cells), (inputs[0],), ["input"], ["boxes", "scores"]), 0.6)
        session = runner(model)

        def reference(
            frame: np.ndarray, score: float, nms: float, gain: float, session: Any = session, norm: bool = normalised
        ) -> Found:
            x, factor = prepared(frame, norm)
            dets, labels = session(x * np.float32(gain))
            sure = dets[0, :, 4] > score
            found = ordered(dets[0, sure, :4] / np.float32(factor * 2), dets[0, sure, 4], labels[0, sure], frame)
            if factor[0] == factor[1]:  # rtmlib knows one ratio only; its threshold is 0.3
                theirs = rtmlib.postprocess(dets.copy(), factor[0])[: sure.sum()]
                np.testing.assert_allclose(theirs, dets[0, sure, :4] / np.float32(factor[0]), atol=1e-3)
            return found

        yield name, model, reference


def revive(network: nn.Module, run: Callable[[], None]) -> None:
    """Weights and statistics with which features do not vanish on their way, as they do as transformers begins."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    for norm in norms:
        norm.momentum = None
        norm.train()
    run()
    network.eval()


class Logits(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.model = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(pixel_values=pixels)
        return found.logits, found.pred_boxes


class Deployed(nn.Module):
    """labels, boxes and scores of the best queries, in px of orig_target_sizes (width, height)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.logits = Logits(network)

    def forward(self, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits, boxes = self.logits(images)
        count, kinds = logits.shape[1:]
        scores, index = logits.sigmoid().flatten(1).topk(count, 1)
        found = corners(boxes.transpose(1, 2)) * sizes.repeat(1, 2)[:, None]
        row = index // kinds
        return index - row * kinds, found.gather(1, row[..., None].expand(-1, -1, 4)), scores


def transformers() -> Iterator[Named]:
    from golden_transformers import small_detr, small_dfine, small_rtdetr
    from transformers import DetrImageProcessorPil, RTDetrImageProcessorPil
    from transformers.models.detr.modeling_detr import DetrObjectDetectionOutput

    side = 128
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

    def prepared(frame: np.ndarray, view: Picture) -> np.ndarray:
        buffer = InputBuffer(view, (side, side), "float32")
        buffer.fill(frame)
        return buffer.array

    views = {False: Picture(scale=1 / 255), True: Picture(scale=1 / 255, **imagenet)}
    networks = (("rtdetr", small_dfine), ("rtdetr_transformers", small_rtdetr), ("detr", small_detr))
    for name, make in networks:
        view = views[name == "detr"]
        network, heads = make()
        inputs = [torch.from_numpy(prepared(picture(seed), view).copy()) for seed in range(50)]

        def run(network: Any = network, inputs: list[torch.Tensor] = inputs) -> None:
            with torch.no_grad():
                for x in inputs:
                    network(pixel_values=x)

        revive(network, run)
        for layers, mean, std in heads:
            standardise(layers, mean, std, run)
        model = exported(Logits(network), (inputs[0],), ["pixel_values"], ["logits", "pred_boxes"])
        session = runner(model)
        processor = (DetrImageProcessorPil if name == "detr" else RTDetrImageProcessorPil)()

        def reference(
            frame: np.ndarray,
            score: float,
            nms: float,
            gain: float,
            session: Any = session,
            view: Picture = view,
            processor: Any = processor,
        ) -> Found:
            logits, boxes = map(torch.from_numpy, session(prepared(frame, view) * np.float32(gain)))
            output = DetrObjectDetectionOutput(logits=logits, pred_boxes=boxes)
            (found,) = processor.post_process_object_detection(output, score, [frame.shape[:2]])
            return ordered(found["boxes"], found["scores"], found["labels"], frame)

        if name == "rtdetr":
            sizes = torch.tensor([[side, side]])
            names = ["images", "orig_target_sizes"]
            model = exported(Deployed(network), (inputs[0], sizes), names, ["labels", "boxes", "scores"])
        yield name, model, reference


cv2.setNumThreads(1)
LAYOUTS = (yolox, ultralytics, mmdeploy, transformers)
