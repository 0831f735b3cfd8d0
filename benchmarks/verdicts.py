"""How often is the verdict of the accuracy gate wrong? Test sets are drawn from labelled people with a known true loss.

    python -m posert.benchmarks.verdicts hrnet_demo.pose
    python -m posert.benchmarks.verdicts mouse.pose --annotations test.json --images images --people 22

Graphs are those of the bundle, and its fp32 graph with noise on the weights of a few layers, as much as loses AP by
0.002, 0.005, 0.01, 0.02 and 0.05 on all people. What a graph loses on all of them is its true loss. Test sets are drawn
from their images with replacement, and judged as the gate judges them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from posert.benchmarks.script import digest, log, markdown, numbers, open_journal, parser, run
from posert.export.demo.frames import demo_frames
from posert.runtime.accuracy.decision import FAILED, PASSED, UNDECIDED, Shares, bounds, decide
from posert.runtime.accuracy.estimation import estimate
from posert.runtime.accuracy.frames import Frames, read_frames
from posert.runtime.accuracy.golden import relative_error
from posert.runtime.accuracy.people import People, labelled_people
from posert.runtime.accuracy.recorder import Recorder
from posert.runtime.accuracy.scorer import Evaluation, Scorer
from posert.runtime.backends import load_backend
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.metrics.oks import OksEvaluation
from posert.runtime.metrics.pck import PckEvaluation
from posert.runtime.pose.heads import Outputs
from posert.runtime.selection import Selection

_TARGETS = (0.002, 0.005, 0.01, 0.02, 0.05)
_STEPS = 7  # of the bisection for a noise that loses as much
_LAYERS = 4  # neighbours that get noise, from the middle of the network
_RESAMPLES = 100  # of the bootstrap of AP in each draw; the gate takes 1000
_OUTPUTS = 64  # people whose outputs are compared
_BACKEND = "openvino"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a Markdown table."""
    arguments = parser(__doc__, "out/verdicts.jsonl")
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("--annotations", type=Path, help="labels to draw from (default: synthetic people)")
    arguments.add_argument("--images", type=Path, help="the folder of its images")
    arguments.add_argument("--limit", type=int, default=1000, help="images at most (1000)")
    arguments.add_argument(
        "--people", type=numbers, default="20,50,100,200,500,1000,2000,5000", help="sizes of test sets"
    )
    arguments.add_argument("--draws", type=int, default=200, help="test sets of each size (200)")
    arguments.add_argument("--max-drop", type=float, default=0.005, help="AP that may be lost (0.005)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    if (args.annotations is None) != (args.images is None):
        raise InputError("--annotations and --images go together")
    key = {"bundle": digest(args.bundle), "limit": args.limit, "draws": args.draws, "max_drop": args.max_drop}
    journal = open_journal(args.output, "verdicts", **key, annotations=str(args.annotations), people=args.people)
    done = {record["graph"]: record for record in journal.records}
    with Bundle(args.bundle) as bundle:
        frames = (
            demo_frames(len(bundle.contract.keypoints), "val", args.limit, "synthetic people")
            if args.annotations is None
            else read_frames(args.annotations, args.images, args.limit).with_joints_of(bundle.contract)
        )
        judged = Population(bundle, frames)
        for name, graph, precision in graphs(judged, bundle, done):
            found = judged.run(graph, precision)
            record: dict[str, Any] = {"graph": name, **judged.facts(found), "verdicts": {}}
            log(f"{name}: {record['lost']:+.4f} of {judged.scorer.metric} lost")
            for people in args.people:
                counts = Counter(judged.verdicts(found, people, args.draws, args.max_drop))
                record["verdicts"][str(people)] = {v: counts[v] / args.draws for v in (PASSED, FAILED, UNDECIDED)}
            done[name] = record
            journal.add(record)
    print(table(done.values(), args.people, judged.scorer.metric))
    return 0


@dataclass(frozen=True)
class Found:
    """What one graph found: the evaluation, the figure that decides, and the first outputs."""

    evaluation: Evaluation
    shares: Shares
    outputs: Outputs


class Population:
    """Labelled people, and what the bundle's fp32 graph finds: the reference."""

    def __init__(self, bundle: Bundle, frames: Frames) -> None:
        self.contract, self.frames = bundle.contract, frames
        self.people: People = labelled_people(frames.coco)
        self.scorer = Scorer(frames.coco, self.people, self.contract)
        self.fp32 = bundle.read(bundle.artifacts["fp32"])
        images, self._image = np.unique(self.people.image, return_inverse=True)
        self._members = [np.flatnonzero(self._image == i) for i in range(len(images))]

    @cached_property
    def reference(self) -> Found:
        """Of the fp32 graph."""
        return self.run(self.fp32, "fp32")

    def run(self, graph: bytes, precision: str) -> Found:
        """Run a graph over everyone."""
        backend = "onnxruntime" if precision == "int8_gpu" else _BACKEND
        session = load_backend(backend).open(graph, precision)
        pose = Recorder(PoseEstimator.from_session(self.contract, session, Selection(backend, precision, "benchmark")))
        people, k = self.people, len(self.contract.keypoints)
        xy, score = np.empty((len(people), k, 2)), np.empty((len(people), k))
        outputs: list[Outputs] = []
        for one in estimate(people, self.frames.load_index, lambda frame, who: pose(frame, people.xyxy[who])):
            xy[one.members], score[one.members] = one.result.xy, one.result.score
            if one.members[0] < _OUTPUTS:
                outputs.append(pose.outputs(one.frame, people.xyxy[one.members]))
        joined = tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return Found(self.scorer.evaluate(xy, score), self.scorer.shares(xy), joined)

    def facts(self, found: Found) -> dict[str, float]:
        """What a graph truly loses."""
        metric, reference = self.scorer.metric, self.reference
        return {
            "lost": reference.evaluation.metrics[metric] - found.evaluation.metrics[metric],
            "lost_without_steps": reference.shares.mean - found.shares.mean,
            "error": relative_error(found.outputs, reference.outputs),
        }

    def verdicts(self, found: Found, people: int, draws: int, max_drop: float) -> Iterator[str]:
        """The verdicts on so many test sets of about so many people."""
        rng = np.random.default_rng(0)
        error, reference = self.facts(found)["error"], self.reference
        count = len(self._members)
        size = max(1, round(people * count / len(self.people)))
        for _ in range(draws):
            drawn = rng.integers(0, count, size)
            loss = bounds(self._drawn(reference.shares, drawn), self._drawn(found.shares, drawn), error)
            yield decide(loss, self._interval(reference.evaluation, found.evaluation, drawn, max_drop, rng), max_drop)

    def _drawn(self, shares: Shares, drawn: NDArray[np.intp]) -> Shares:
        who = np.concatenate([self._members[i] for i in drawn])
        image = np.repeat(np.arange(len(drawn)), [len(self._members[i]) for i in drawn])
        return Shares(image, shares.score[who], shares.count[who], shares.joint)

    def _interval(
        self, before: Evaluation, after: Evaluation, drawn: NDArray[np.intp], max_drop: float, rng: np.random.Generator
    ) -> tuple[float, float]:
        """Of the loss of AP or PCK, by the bootstrap over the images drawn."""
        point = self._lost(before, after, np.bincount(drawn, minlength=len(self._members)))
        if point <= max_drop:  # the lower end lies below the point, and only its being above what is allowed counts
            return point, point
        lost = np.empty(_RESAMPLES)
        for r in range(_RESAMPLES):
            again = np.bincount(drawn[rng.integers(0, len(drawn), len(drawn))], minlength=len(self._members))
            lost[r] = self._lost(before, after, again)
        low, high = np.quantile(lost, [0.025, 0.975])
        return float(low), float(high)

    def _lost(self, before: Evaluation, after: Evaluation, images: NDArray[np.int64]) -> float:
        return self._figure(before, images) - self._figure(after, images)

    def _figure(self, evaluation: Evaluation, images: NDArray[np.int64]) -> float:
        if isinstance(evaluation, PckEvaluation):
            who = np.repeat(np.arange(len(self._image)), images[self._image])
            return PckEvaluation(self._image[who], evaluation.distance[who]).metrics[self.scorer.metric]
        assert isinstance(evaluation, OksEvaluation)
        weights = np.zeros(len(evaluation.images), np.int64)
        weights[self._rows] = images
        return float(evaluation.curves(weights=weights)[0].mean())

    @cached_property
    def _rows(self) -> NDArray[np.intp]:
        """Where the evaluation has the images that have people."""
        evaluation = self.reference.evaluation
        assert isinstance(evaluation, OksEvaluation)
        known = {name: i for i, name in enumerate(evaluation.images)}
        return np.array([known[self.people.image_ids[members[0]]] for members in self._members])


def graphs(judged: Population, bundle: Bundle, done: dict[str, Any]) -> Iterator[tuple[str, bytes, str]]:
    """Name, bytes and precision of each graph that has not been judged."""
    for name in ("int8", "int8_gpu", "fp16"):
        if name in bundle.artifacts and name not in done:
            yield name, bundle.read(bundle.artifacts[name]), name
    model = onnx.load_from_string(judged.fp32)
    weights = [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    known = {tensor.name for tensor in model.graph.initializer}
    weights = [name for name in weights if name in known]
    chosen = set(weights[len(weights) // 2 :][:_LAYERS])
    for target in _TARGETS:
        name = f"fp32, noise for {target:g}"
        if name in done:
            continue
        low, high = 1e-3, 4.0
        for _ in range(_STEPS):
            middle = (low * high) ** 0.5
            lost = judged.facts(judged.run(noisy(model, chosen, middle), "fp32"))["lost"]
            low, high = (middle, high) if lost < target else (low, middle)
        yield name, noisy(model, chosen, (low * high) ** 0.5), "fp32"


def noisy(model: onnx.ModelProto, weights: set[str], noise: float) -> bytes:
    """The graph with normal noise on some weights, of so many of their standard deviations."""
    made, rng = onnx.ModelProto(), np.random.default_rng(0)
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        if tensor.name in weights:
            values = numpy_helper.to_array(tensor)
            moved = values + noise * values.std() * rng.standard_normal(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(values.dtype), tensor.name))
    return bytes(made.SerializeToString())


def table(records: Any, people: Sequence[int], metric: str) -> str:
    """A row for each graph: what it loses, and passed / failed / undecided in % for each size."""
    head = f"graph | {metric} lost | without steps | error | " + " | ".join(f"{n} people" for n in people)
    rows = []
    for record in records:
        cells = [
            " / ".join(f"{100 * record['verdicts'][str(n)][v]:.0f}" for v in (PASSED, FAILED, UNDECIDED))
            for n in people
        ]
        lost = [f"{record['lost']:+.4f}", f"{record['lost_without_steps']:+.4f}", f"{record['error']:.2g}"]
        rows.append([record["graph"], *lost, *cells])
    return markdown(head, rows)


if __name__ == "__main__":
    sys.exit(main())
