"""Which cells of a detector answer for which person, and what their answers cost: SimOTA and the loss of YOLOX.

Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from ..letterbox import HEIGHT, STRIDES, WIDTH

_RADIUS = 1.5  # strides around a person's centre in which cells may answer for it
_IOU_COST, _IOU_LOSS = 3.0, 5.0
_MOST = 10  # cells per person


def cells() -> tuple[Tensor, Tensor]:
    """Corners `(A, 2)` px and strides `(A, 1)` px of the detector's cells, in its order."""
    corners, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(HEIGHT // stride), torch.arange(WIDTH // stride), indexing="ij")
        corners.append(torch.stack([x, y], 2).reshape(-1, 2) * stride)
        strides.append(torch.full((y.numel(), 1), stride))
    return torch.cat(corners).float(), torch.cat(strides).float()


def boxes_of(answers: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """Boxes `(..., A, 4)` xyxy px of the detector's answers `(..., A, 4 or more)`."""
    centres = answers[..., :2] * strides + corners
    half = answers[..., 2:4].clamp(max=8).exp() * strides / 2
    return torch.cat([centres - half, centres + half], -1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes `(..., 4)` xyxy that broadcast."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    area, area_a, area_b = (s.prod(-1) for s in (sides, a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]))
    return area / (area_a + area_b - area + 1e-6)


@torch.no_grad()
def assign(answers: Tensor, boxes: Tensor, people: Tensor, corners: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """The cells that answer for somebody, and for whom: indices `(M,)` and `(M,)`.

    Args:
        answers: `(A, 6)` of one picture, logits.
        boxes: `(A, 4)` of the same answers, xyxy px.
        people: `(G, 4)` xyxy px.
        corners, strides: of the cells.
    """
    middle = (people[:, :2] + people[:, 2:]) / 2
    near = ((corners + strides / 2)[None] - middle[:, None]).abs().amax(2) < _RADIUS * strides[:, 0]
    candidates = near.any(0).nonzero()[:, 0]
    near = near[:, candidates]
    overlap = iou(people[:, None], boxes[None, candidates])
    confidence = (answers[candidates, 4].sigmoid() * answers[candidates, 5].sigmoid()).sqrt().clamp(min=1e-8)
    cost = -confidence.log()[None] - _IOU_COST * (overlap + 1e-8).log() + 1e5 * ~near
    chosen = torch.zeros_like(near)
    count = overlap.topk(min(_MOST, overlap.shape[1]), 1).values.sum(1).int().clamp(min=1)
    for row, costs, wanted in zip(chosen, cost, count.tolist(), strict=True):
        row[costs.topk(min(wanted, len(costs)), largest=False).indices] = True
    chosen &= near
    # A cell that two people want answers for the one whom it costs less.
    several = chosen.sum(0) > 1
    best = cost.argmin(0)
    chosen[:, several] = False
    chosen[best[several], several.nonzero()[:, 0]] = True
    person, cell = chosen.nonzero(as_tuple=True)
    return candidates[cell], person


def loss(answers: Tensor, people: list[Tensor], corners: Tensor, strides: Tensor) -> Tensor:
    """Mean over the answering cells of a batch `(N, A, 6)`, logits; `people` are N times `(G, 4)` xyxy px."""
    boxes = boxes_of(answers, corners, strides)
    objectness = torch.zeros_like(answers[..., 4])
    total = answers.new_zeros(())
    answering = 0
    for picture, there in enumerate(people):
        if not len(there):
            continue
        cell, person = assign(answers[picture], boxes[picture], there, corners, strides)
        objectness[picture, cell] = 1.0
        overlap = iou(boxes[picture, cell], there[person])
        total = total + _IOU_LOSS * (1 - overlap**2).sum()
        total = total + cross_entropy(answers[picture, cell, 5], overlap.detach(), reduction="sum")
        answering += len(cell)
    return (total + cross_entropy(answers[..., 4], objectness, reduction="sum")) / max(answering, 1)
