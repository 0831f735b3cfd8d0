"""Train a small network on synthetic people, from scratch, on one CPU core.

    python -m posert.export.demo.training.train --arch hrnet_demo --output hrnet_demo.safetensors --minutes 80

The learning rate follows the clock, so any budget ends with a finished schedule; the price is that two machines take a
different number of steps. What was reached, with which command, is written to a .json beside the weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ....runtime.accuracy.people import People, labelled_people
from ....runtime.bundle.contract import Contract
from ....runtime.datasets.coco import DATASET
from ....runtime.pose.preprocess import crop, crop_matrices
from ....runtime.system.files import atomic_write
from ...archs import build_arch
from ...graph.reference import Reference
from .. import data
from ..people import Image
from .crops import average_precision

SIGMA = 2.0  # px of the heatmap
STRIDE = 4  # crop px per heatmap px
BATCH = 16
FLIP = list(DATASET.flip_index)

Floats = NDArray[np.float32]


def contract(width: int, height: int) -> Contract:
    """What demo networks are trained to see and to mean: the convention of the published HRNet for COCO."""
    return Contract(
        dataset=DATASET.name,
        keypoints=DATASET.keypoints,
        flip_pairs=DATASET.flip_pairs,
        skeleton=DATASET.skeleton,
        sigmas=DATASET.sigmas,
        width=width,
        height=height,
        heatmap_width=width // STRIDE,
        heatmap_height=height // STRIDE,
    )


def matrices(people: People, c: Contract) -> NDArray[np.float64]:
    """Frame -> crop `(N, 2, 3)` of people."""
    return crop_matrices(*people.regions(c), c.width, c.height)


class Augmented:
    """Random batches of mirrored, turned, zoomed and recoloured people."""

    def __init__(self, images: Image, people: People, width: int, height: int, seed: int) -> None:
        self.images, self.people, self.width, self.height = images, people, width, height
        assert people.joints is not None  # they are labelled
        self._joints, self._matrices = people.joints, matrices(people, contract(width, height))
        self._random = np.random.default_rng(seed)
        self._order: list[int] = []

    def batch(self) -> tuple[Image, Floats, Floats]:
        """Crops `(N, H, W, 3)` uint8 BGR, target heatmaps `(N, K, h, w)` and which joints count, `(N, K)`."""
        crops = np.empty((BATCH, self.height, self.width, 3), np.uint8)
        joints = np.empty((BATCH, len(DATASET.keypoints), 3), np.float32)
        for i in range(BATCH):
            if not self._order:
                self._order = self._random.permutation(len(self.people)).tolist()
            person = self._order.pop()
            matrix, flipped = self._matrix(person)
            crop(self.images[self.people.image[person]], matrix[None], self.width, self.height, out=crops[i : i + 1])
            joints[i] = self._joints[person][FLIP if flipped else slice(None)]
            joints[i, :, :2] = joints[i, :, :2] @ matrix[:, :2].T + matrix[:, 2]
        return crops, *targets(joints, self.width // STRIDE, self.height // STRIDE)

    def _matrix(self, person: int) -> tuple[np.ndarray, bool]:
        """Frame -> crop `(2, 3)`, turned and zoomed about the centre of the crop, and whether it mirrors."""
        draw, half = self._random, np.array([self.width, self.height]) / 2
        angle = math.radians(draw.uniform(-12, 12)) if draw.random() < 0.6 else 0.0
        zoom = draw.uniform(0.9, 1.1)
        turn = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = turn @ self._matrices[person]
        matrix[:, 2] += half - turn @ half + draw.uniform(-0.04, 0.04, 2) * half
        flipped = bool(draw.random() < 0.5)
        if flipped:
            # Mirrored in the crop's own px, so that joints and picture stay together whatever the convention.
            matrix[0] = -matrix[0]
            matrix[0, 2] += self.width - 1
        return matrix, flipped


def targets(joints: Floats, width: int, height: int) -> tuple[Floats, Floats]:
    """Gaussians centred where the joints `(N, K, 3)` (px of the crop) are, not on the nearest px; which count."""
    x, y = joints[..., 0] / STRIDE, joints[..., 1] / STRIDE
    gx = np.exp(-((np.arange(width, dtype=np.float32) - x[..., None]) ** 2) / (2 * SIGMA**2))
    gy = np.exp(-((np.arange(height, dtype=np.float32) - y[..., None]) ** 2) / (2 * SIGMA**2))
    inside = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    return gy[..., :, None] * gx[..., None, :], ((joints[..., 2] > 0) & inside).astype(np.float32)


def initialise(network: nn.Module) -> None:
    """He's initialisation, and a last layer that starts near the empty heatmap, which most of a target is."""
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(convolutions[-1].weight, std=0.001)
    if convolutions[-1].bias is not None:
        nn.init.zeros_(convolutions[-1].bias)


class Average:
    """Exponential moving average of a network's weights and statistics."""

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.network = copy.deepcopy(network).eval()
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))  # forget the first steps quickly
        for mean, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


@torch.inference_mode()
def evaluate(network: nn.Module, count: int, width: int, height: int) -> dict[str, float]:
    """AP on the first `count` held-out images with ground-truth boxes; by two other ways of reading the maps too."""
    c = contract(width, height)
    reference = Reference(network, c)
    images, labels = data.cached("val", count)
    people = labelled_people(labels)
    to_crop = matrices(people, c)
    plain, mirrored = [], []
    for start in range(0, len(people), BATCH):
        batch = range(start, min(start + BATCH, len(people)))
        crops = np.concatenate([crop(images[people.image[i]], to_crop[i : i + 1], width, height) for i in batch])
        x = torch.from_numpy(crops)
        plain.append(reference(x))
        back = reference(x.flip(2)).flip(3)[:, FLIP]
        back[..., 1:] = back[..., :-1].clone()  # the mirrored map lies a pixel to the left (MMPose `shift_heatmap`)
        mirrored.append(back)
    maps = torch.cat(plain)
    return average_precision(maps.numpy(), people, labels, c) | {
        "AP_flip_test": average_precision(((maps + torch.cat(mirrored)) / 2).numpy(), people, labels, c)["AP"],
        "AP_unbiased": average_precision(maps.numpy(), people, labels, replace(c, decode="unbiased"))["AP"],
    }


def save(path: Path, network: nn.Module, record: dict[str, Any]) -> None:
    """Write the weights in half precision, with the record in their header and in a .json beside them."""
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")  # of no use after training
    }
    facts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
    facts.pop("curve")
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(state, metadata=facts))
    with atomic_write(path.with_suffix(".json")) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train, keep on disk the average weights with the best AP so far, and return their record."""
    width, height = args.imgsz
    images, labels = data.cached("train", args.images)
    people = labelled_people(labels)
    torch.manual_seed(args.seed)
    network = build_arch(args.arch, len(DATASET.keypoints))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's annotations
    initialise(network)
    average = Average(network)
    reference = Reference(network, contract(width, height))
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=0.01)
    batches = Augmented(images, people, width, height, args.seed)
    record: dict[str, Any] = {
        "arch": args.arch,
        "data": f"{args.images} images, {len(people)} people of posert.export.demo.people",
        "keypoints": DATASET.name,
        "input": f"{height}x{width}",
        "decode": "default",
        "target": f"Gaussian, sigma {SIGMA:g} px of the heatmap, centred between its pixels",
        "parameters": sum(p.numel() for p in network.parameters()),
        "command": args.command,
        "seed": args.seed,
        "curve": [],
    }
    start, step, measured, losses, progress = time.perf_counter(), 0, 0, 0.0, 0.0
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.rate * schedule(progress)
        crops, target, weight = (torch.from_numpy(a) for a in batches.batch())
        x = recolour(reference.normalise(crops)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            y = network(x)
        loss = ((y.float() - target).square().sum((2, 3)) * weight).sum() / weight.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        average.update(network)
        losses += loss.item()
        step += 1
        minutes = (time.perf_counter() - start) / 60
        progress = min(minutes / args.minutes, 1.0)
        if progress * args.evaluations >= len(record["curve"]) + 1:
            loss_now = round(losses / (step - measured), 4)
            point = {"minutes": round(minutes, 2), "samples": step * BATCH, "loss": loss_now}
            losses, measured = 0.0, step
            point |= evaluate(average.network, args.held_out, width, height)
            print(json.dumps(point), flush=True)
            best = max((p["AP"] for p in record["curve"]), default=-1.0)
            record["curve"].append(point)
            if point["AP"] >= best:
                save(args.output, average.network, record | point | {"held_out_images": args.held_out})
    written: dict[str, Any] = json.loads(args.output.with_suffix(".json").read_text())
    return written


def recolour(images: Tensor) -> Tensor:
    """Change contrast and brightness of each channel a little."""
    gain, offset = (torch.rand(2, len(images), 3, 1, 1) - 0.5).unbind()
    return images * (1 + 0.2 * gain) + 0.3 * offset


def schedule(progress: float) -> float:
    """Warm-up over the first 2 % of the time, then half a cosine to zero."""
    return min(progress / 0.02, 1.0) * 0.5 * (1 + math.cos(math.pi * progress)) + 1e-4


def measure(path: Path, count: int) -> dict[str, Any]:
    """Measure the weights in a file on `count` held-out images and bring their record up to date."""
    record: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    network = build_arch(record["arch"], len(DATASET.keypoints))
    network.load_state_dict({key: value.float() for key, value in safetensors.torch.load_file(path).items()})
    height, width = (int(side) for side in record["input"].split("x"))
    record |= {"held_out_images": count, **evaluate(network, count, width, height)}
    save(path, network, record)
    return record


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a demo network on synthetic people.")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--output", type=Path, required=True, help=".safetensors file; a .json goes beside it")
    parser.add_argument("--minutes", type=float, default=80.0, help="time to train for; 0 only measures --output again")
    parser.add_argument("--images", type=int, default=16000, help="training images, two people in each on average")
    parser.add_argument("--held-out", type=int, default=400, help="images to measure on")
    parser.add_argument("--evaluations", type=int, default=16)
    parser.add_argument("--imgsz", default="256x192", help="height x width of the crops")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    height, width = (int(side) for side in args.imgsz.split("x"))
    args.imgsz = width, height
    shown = [Path(a).name if a == str(args.output) else a for a in argv]
    args.command = " ".join(["python -m posert.export.demo.training.train", *shown])
    return args


def main() -> None:
    args = parse(sys.argv[1:])
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    record = train(args) if args.minutes else measure(args.output, args.held_out)
    print(json.dumps({key: value for key, value in record.items() if key != "curve"}, indent=1))


if __name__ == "__main__":
    main()
