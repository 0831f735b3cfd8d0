"""Makes tests/goldens/detectors: a small graph of each layout, and the boxes that its project's own code finds with it.

    pip install --no-deps transformers==5.23.0 ultralytics==8.4.190 rtmlib==0.0.16 mmcv-lite==2.2.0 mmengine==0.10.7 \\
        loguru tabulate addict yapf termcolor platformdirs  # and what transformers asks for (huggingface_hub, ...)
    pip download --no-deps --no-build-isolation yolox==0.3.0 && tar -xzf yolox-0.3.0.tar.gz
    PYTHONPATH=yolox-0.3.0 python tests/runtime/detection/make_goldens.py  # of all, or: yolox ultralytics ...

With torch 2.13.0, onnxruntime 1.31.1, OpenCV 4.14. Tests read the files and need none of these packages.

Which code is the reference:

- yolox, yolox_decoded: the graph holds YOLOXHead of `yolox`; `preproc` and `postprocess` of `yolox`.
- ultralytics, ultralytics_end2end: the graph's head is written here, with the outputs of an exported YOLO; `LetterBox`,
  `non_max_suppression` and `scale_boxes` of `ultralytics`. (`check_exported.py` runs what ultralytics itself exports.)
- mmdeploy_yolox, mmdeploy_rtmdet: the head is written here, with NMS in the graph as mmdeploy's mmcv/ops/nms.py puts it
  there; `mmcv.transforms.Resize` and `Pad`. Boxes are divided by its scale_factor, as in mmdeploy's
  object_detection_model.py. Where a picture's sides are scaled without rounding, rtmlib's post-processing must agree.
- rtdetr: D-FINE of `transformers`, with labels, boxes and scores computed in the graph as RT-DETR's postprocessor does;
  rtdetr_transformers: RT-DETR of `transformers`; detr: DETR of `transformers`. `post_process_object_detection` of their
  processors. Their processors resize with Pillow, which OpenCV does not equal, so the network's input is posert's.

Weights are random. What a random network gives is nearly the same everywhere, so the last layer of each head is scaled
until its outputs have a given mean and deviation over the pictures: logits around the threshold, sizes from a few px to
the whole picture. A picture is left out where the reference's own result changes with a hundred-thousandth of the
input, 0.001 of the score threshold or 0.005 of the NMS threshold: the last digit of another CPU would decide there.
"""

from __future__ import annotations

import importlib.metadata
import io
import sys
import types
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[2] / "goldens" / "detectors"
PICTURES = 50
SCORE, NMS = 0.5, 0.6
CLASSES = 5


def picture(seed: int) -> np.ndarray:
    """A frame `(H, W, 3)` uint8 of a size of its own: blocks of colour, the same on every machine."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(60, 420, 2)
    cells = rng.integers(0, 256, (height // 20 + 1, width // 20 + 1, 3), np.uint8)
    frame = np.kron(cells, np.ones((20, 20, 1), np.uint8))[:height, :width].copy()
    for _ in range(6):
        x, y = int(rng.integers(0, width - 20)), int(rng.integers(0, height - 20))
        w, h = rng.integers(10, 120, 2)
        frame[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return frame


Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def ordered(boxes: Any, score: Any, label: Any, frame: np.ndarray) -> Found:
    """A reference's result, clipped to the frame, the surest first."""
    boxes, score, label = (np.asarray(array) for array in (boxes, score, label))
    height, width = frame.shape[:2]
    boxes = boxes.reshape(-1, 4).astype(np.float32).clip(0, np.float32([width, height, width, height]))
    order = np.argsort(-score.astype(np.float32), kind="stable")
    order = order[(boxes[order, 2:] > boxes[order, :2]).all(axis=1)]
    return boxes[order], score[order].astype(np.float32), label[order].astype(np.int64)


def same(a: Found, b: Found) -> bool:
    """Whether two results are the same people, in an order that no digit decides."""
    if len(a[0]) != len(b[0]) or not np.array_equal(a[2], b[2]):
        return False
    clear = len(a[1]) < 2 or np.diff(-a[1]).min() > 2e-5
    return bool(clear and np.abs(a[0] - b[0]).max(initial=0) < 0.05)


def standardise(layers: Sequence[Any], mean: float, std: float, run: Callable[[], None]) -> None:
    """Scale last layers until each of their channels has this mean and deviation over the pictures."""
    import torch

    for layer in layers:
        if not layer.weight.any():  # as DETRs begin
            layer.reset_parameters()
    seen: dict[int, list[torch.Tensor]] = {i: [] for i in range(len(layers))}

    def keep(i: int) -> Callable[..., None]:
        return lambda module, inputs, output: seen[i].append(output.detach())

    hooks = [layer.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]
    run()
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for i, layer in enumerate(layers):
            channels = 1 if isinstance(layer, torch.nn.Conv2d) else -1
            values = torch.cat([v.movedim(channels, -1).reshape(-1, layer.weight.shape[0]) for v in seen[i]])
            gain = std / values.std(0).clamp(min=1e-6)
            layer.weight.mul_(gain.view(-1, *[1] * (layer.weight.dim() - 1)))
            layer.bias.copy_((layer.bias - values.mean(0)) * gain + mean)


def exported(network: Any, inputs: tuple[Any, ...], names: list[str], outputs: list[str]) -> Any:
    import onnx
    import torch

    file = io.BytesIO()
    torch.onnx.export(
        network.eval(), inputs, file, input_names=names, output_names=outputs, dynamo=False, opset_version=17
    )
    model = onnx.load_from_string(file.getvalue())
    # Names of nodes and of what flows between them are half of such a small file; those of weights stay.
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    short: dict[str, str] = {}
    for node in model.graph.node:
        assert not any(attribute.HasField("g") for attribute in node.attribute), "names of subgraphs are not renamed"
        node.name, node.doc_string = "", ""
        for name in node.output:
            if name and name not in kept:
                short[name] = f"v{len(short)}"
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def runner(model: Any) -> Callable[..., list[np.ndarray]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def torchvision_stand_in() -> None:
    """`torchvision.ops`, whose wheels want CUDA: ultralytics' NMS, which equals it."""
    version = importlib.metadata.version
    vars(importlib.metadata)["version"] = lambda name: "0.28.0" if name == "torchvision" else version(name)
    from ultralytics.utils.nms import TorchNMS

    def batched(boxes: Any, scores: Any, labels: Any, threshold: float) -> Any:
        return TorchNMS.nms(boxes + labels[:, None] * (boxes.max() + 1), scores, threshold)

    module, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    vars(ops).update(nms=TorchNMS.nms, batched_nms=batched)
    vars(module).update(ops=ops)
    sys.modules |= {"torchvision": module, "torchvision.ops": ops}


def collect(name: str, model: Any, reference: Callable[..., Found], kept: dict[str, np.ndarray]) -> None:
    """Save a graph and its reference's results on the pictures where these are stable."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())
    seeds, results = [], []
    for seed in count():
        frame = picture(seed)
        found = reference(frame, SCORE, NMS, 1.0)
        changed = [(SCORE, NMS, 1.00001), (SCORE - 0.001, NMS, 1.0), (SCORE + 0.001, NMS, 1.0)]
        changed += [(SCORE, NMS - 0.005, 1.0), (SCORE, NMS + 0.005, 1.0)]
        if all(same(found, reference(frame, *setting)) for setting in changed):
            seeds.append(seed)
            results.append(found)
        if len(seeds) == PICTURES:
            break
    counts = [len(boxes) for boxes, _, _ in results]
    arrays = [np.concatenate(parts) for parts in zip(*results, strict=True)]
    kept |= {f"{name}/seeds": np.array(seeds), f"{name}/counts": np.array(counts)}
    kept |= {f"{name}/{key}": array for key, array in zip(("boxes", "score", "label"), arrays, strict=True)}
    spread = np.ptp(arrays[0], axis=0).round(0).tolist()
    print(f"{name}: {sum(counts)} boxes, {min(counts)} to {max(counts)} a picture, spread {spread}; pictures to {seed}")


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import torch
    import transformers  # noqa: F401  # before the stand-in: it asks whether torchvision is installed
    from golden_networks import LAYOUTS

    torchvision_stand_in()
    archive = FOLDER / "boxes.npz"
    kept: dict[str, np.ndarray] = dict(np.load(archive)) if archive.exists() else {}
    for make in LAYOUTS:
        if make.__name__ in sys.argv[1:] or len(sys.argv) == 1:
            torch.manual_seed(15)
            for name, model, reference in make():
                collect(name, model, reference, kept)
    np.savez_compressed(archive, **kept)


if __name__ == "__main__":
    main()
