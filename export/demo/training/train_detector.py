"""Train the demo's detector on synthetic people, from scratch, on one CPU core.

    python -m posert.export.demo.training.train_detector --output demo_detector.safetensors --minutes 20

As in `train`, the learning rate follows the clock, here the processor's: a busy machine takes longer and no fewer
steps. What was reached is written to a .json beside the weights.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import data, detector, videos
from ..detector_network import Detector, Head
from ..letterbox import HEIGHT, PADDING, WIDTH
from ..people import Annotation, Image
from ..scenarios import scene
from .assign import cells, loss
from .detections import average_precision
from .train import Average, recolour, save, schedule

BATCH = 16
_PROVIDERS = ["CPUExecutionProvider"]
_SPARSE = 12  # frames between two of a clip: people have moved
_RARE = -math.log((1 - 0.01) / 0.01)  # bias of a cell that answers for somebody in one of a hundred cases

Boxes = NDArray[np.float32]


class Pictures:
    """Labelled pictures: generated images and frames of clips, with their annotations."""

    def __init__(self, split: str, images: int, clips: int) -> None:
        self.images: list[Image] = []
        self.people: list[list[Annotation]] = []
        if images:
            pixels, labels = data.cached(split, images)
            self.images = list(pixels)
            self.people = [[] for _ in range(images)]
            for a in labels["annotations"]:
                self.people[a["image_id"] - 1].append(a)
        for index in range(clips):
            of = scene(split, index)
            for frame in range(index % _SPARSE, 100, _SPARSE):
                image, people = videos.render(of, frame)
                self.images.append(image)
                self.people.append(people)


class Augmented:
    """Random batches of mirrored, zoomed and shifted pictures."""

    def __init__(self, pictures: Pictures, seed: int) -> None:
        self._images, self._random = pictures.images, np.random.default_rng(seed)
        self._boxes = [_corners(people) for people in pictures.people]
        self._order: list[int] = []

    def batch(self) -> tuple[Image, list[Tensor]]:
        """Inputs `(N, 256, 320, 3)` uint8 BGR and the boxes `(G, 4)` xyxy px of each."""
        images, boxes = np.empty((BATCH, HEIGHT, WIDTH, 3), np.uint8), []
        for i in range(BATCH):
            if not self._order:
                self._order = self._random.permutation(len(self._images)).tolist()
            number = self._order.pop()
            boxes.append(self._place(self._images[number], self._boxes[number], images[i]))
        return images, boxes

    def _place(self, image: Image, boxes: Boxes, out: Image) -> Tensor:
        draw, (height, width) = self._random, image.shape[:2]
        scale = min(HEIGHT / height, WIDTH / width)
        dx = dy = 0.0
        if draw.random() < 0.7:
            scale *= math.exp(draw.uniform(-0.45, 0.35))
            dx, dy = draw.uniform(0, 1, 2) * (WIDTH - width * scale, HEIGHT - height * scale)
        matrix = np.array([[scale, 0, dx], [0, scale, dy]], np.float64)
        flipped = draw.random() < 0.5
        if flipped:
            matrix[0] = -scale, 0, dx + width * scale
        # OpenCV's transforms are between centres of pixels, boxes are between their borders.
        pixels = matrix.copy()
        pixels[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        grey = (PADDING, PADDING, PADDING)
        cv2.warpAffine(image, pixels, (WIDTH, HEIGHT), out, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, grey)
        corners = boxes.reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
        placed = np.sort(corners.reshape(-1, 2, 2), 1).reshape(-1, 4)
        inside = np.clip(placed, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
        area, whole = ((b[:, 2:] - b[:, :2]).prod(1) for b in (inside, placed))
        return torch.from_numpy(inside[(area > 0.25 * whole) & (area > 16)].astype(np.float32))


def _corners(people: Sequence[Annotation]) -> Boxes:
    """Boxes `(G, 4)` xyxy px."""
    xywh = np.array([a["bbox"] for a in people], np.float32).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)


def initialise(network: Detector) -> None:
    """He's initialisation; at first no cell answers for anybody."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for head in network.modules():
        if isinstance(head, Head):
            for layer in (head.box, head.objectness, head.person):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None
                nn.init.constant_(layer.bias, _RARE if layer is head.objectness else 0.0)


@torch.inference_mode()
def evaluate(network: nn.Module, pictures: Pictures) -> dict[str, float]:
    """AP of boxes, see `average_precision`."""
    return average_precision(lambda x: network(torch.from_numpy(x)).numpy(), pictures.images, pictures.people)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train, keep on disk the average weights with the best AP so far, and return their record."""
    pictures = Pictures("train", args.images, args.clips)
    held_out = _held_out(args.held_out)
    torch.manual_seed(args.seed)
    network = Detector()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's annotations
    initialise(network)
    average = Average(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=0.02)
    batches, (corners, strides) = Augmented(pictures, args.seed), cells()
    record: dict[str, Any] = {
        "data": f"{args.images} images of posert.export.demo.people and {len(pictures.images) - args.images} frames of "
        f"{args.clips} clips of posert.export.demo.videos, {sum(map(len, pictures.people))} people",
        "input": f"{HEIGHT}x{WIDTH}",
        "parameters": sum(p.numel() for p in network.parameters()),
        "command": args.command,
        "seed": args.seed,
        "curve": [],
    }
    start, step, measured, losses, progress = time.process_time(), 0, 0, 0.0, 0.0
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.rate * schedule(progress)
        images, boxes = batches.batch()
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        # `recolour` is for values of a spread of one.
        x = (recolour((x - 128) / 64) * 64 + 128).clamp(0, 255)
        network.train()
        with torch.autocast("cpu", torch.bfloat16):
            maps = network.maps(x)
        answers = torch.cat([m.float().flatten(2) for m in maps], 2).transpose(1, 2)
        cost = loss(answers, boxes, corners, strides)
        optimizer.zero_grad()
        cost.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 20.0)
        optimizer.step()
        average.update(network)
        losses += cost.item()
        step += 1
        minutes = (time.process_time() - start) / 60
        progress = min(minutes / args.minutes, 1.0)
        if progress * args.evaluations >= len(record["curve"]) + 1:
            mean = round(losses / (step - measured), 4)
            point: dict[str, Any] = {"minutes": round(minutes, 2), "samples": step * BATCH, "loss": mean}
            losses, measured = 0.0, step
            point |= {name: evaluate(average.network, some) for name, some in held_out.items()}
            print(json.dumps(point), flush=True)
            best = max((p["images"]["AP"] + p["clips"]["AP"] for p in record["curve"]), default=-1.0)
            record["curve"].append(point)
            if point["images"]["AP"] + point["clips"]["AP"] >= best:
                save(args.output, average.network, record | point | {"held_out_images": args.held_out})
    written: dict[str, Any] = json.loads(args.output.with_suffix(".json").read_text())
    return written


def _held_out(images: int) -> dict[str, Pictures]:
    """Pictures and clips of the split `val`, ten images for each clip, at most twenty clips."""
    return {"images": Pictures("val", images, 0), "clips": Pictures("val", 0, min(images // 10, 20))}


def measure(path: Path, images: int) -> dict[str, Any]:
    """Measure the weights in a file, in float and in int8, on held-out pictures and bring their record up to date."""
    record: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    network, held_out = detector.network(path), _held_out(images)
    session = onnxruntime.InferenceSession(detector.graph("int8", path).SerializeToString(), providers=_PROVIDERS)
    record["held_out_images"] = images
    for name, some in held_out.items():
        record[name] = evaluate(network, some)
        int8 = average_precision(lambda x: session.run(None, {"images": x})[0], some.images, some.people)
        record[f"{name}_int8"] = int8
    save(path, network, record)
    return record


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo's person detector on synthetic people.")
    parser.add_argument("--output", type=Path, required=True, help=".safetensors file; a .json goes beside it")
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="processor time to train for; 0 only measures --output again"
    )
    parser.add_argument("--images", type=int, default=6000, help="training images")
    parser.add_argument("--clips", type=int, default=160, help="training clips, eight or nine frames of each")
    parser.add_argument("--held-out", type=int, default=200, help="images to measure on; clips are a tenth as many")
    parser.add_argument("--evaluations", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    shown = [Path(a).name if a == str(args.output) else a for a in argv]
    args.command = " ".join(["python -m posert.export.demo.training.train_detector", *shown])
    return args


def main() -> None:
    args = parse(sys.argv[1:])
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    record = train(args) if args.minutes else measure(args.output, args.held_out)
    print(json.dumps({key: value for key, value in record.items() if key != "curve"}))


if __name__ == "__main__":
    main()
