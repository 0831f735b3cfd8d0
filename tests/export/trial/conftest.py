"""The demo network with its labelled people, whose outputs for one input are computed once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from posert.export.builder.model import PublishedModel
from posert.export.catalog import find
from posert.export.demo.frames import demo_frames
from posert.export.graph.from_onnx import ForeignGraph
from posert.export.graph.onnx_reference import OnnxReference
from posert.export.graph.to_onnx import to_onnx
from posert.export.trial import Subjects
from posert.runtime.accuracy.frames import Frames
from posert.runtime.accuracy.people import labelled_people
from posert.runtime.bundle.contract import Contract
from posert.runtime.pose.heads import Outputs

IMAGES = 30

RIGHT: Contract = find("hrnet_demo").contract()


@pytest.fixture(scope="session")
def demo_graph(made_once: Callable[[str, Callable[[Path], object]], Path]) -> onnx.ModelProto:
    """The demo network as ONNX, which runs three times as fast as PyTorch."""

    def make(folder: Path) -> None:
        reference = PublishedModel(find("hrnet_demo"), "demo").load(lambda what, done, total: None).reference
        onnx.save(to_onnx(reference), folder / "demo.onnx")  # type: ignore[arg-type]

    return onnx.load(made_once("demo_graph", make) / "demo.onnx")


@pytest.fixture(scope="session")
def people() -> Frames:
    """Labelled synthetic people."""
    return demo_frames(len(RIGHT.keypoints), "val", IMAGES, "synthetic people")


Trying = Callable[..., Subjects]


@pytest.fixture(scope="session")
def trying(demo_graph: onnx.ModelProto, people: Frames) -> Iterator[Trying]:
    """`trying(contract, channels=order)`: the demo network, with its channels in an order, behind a contract.

    The result counts in `runs` how often the network would have run.
    """
    known: dict[Any, Outputs] = {}
    graph = ForeignGraph(demo_graph, ())

    class Cached(Subjects):
        runs = 0
        channels = list(range(len(RIGHT.keypoints)))

        def outputs(self, contract: Contract, crops: Any, mirrored: bool = False, advance: Any = None) -> Outputs:
            self.runs += 1
            c = contract
            key = (c.model_color, c.mean, c.std, c.padding, c.udp, mirrored)
            if key not in known:
                known[key] = super().outputs(replace(contract, decode="default"), crops, mirrored)
            return tuple(np.ascontiguousarray(output[:, self.channels]) for output in known[key])

    def make(contract: Contract, channels: Any = None) -> Subjects:
        table = labelled_people(people.coco)
        subjects = Cached(OnnxReference(graph, contract), table, people.load_index)
        if channels is not None:
            subjects.channels = list(channels)
        return subjects

    yield make
