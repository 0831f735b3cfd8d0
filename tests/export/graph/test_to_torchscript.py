"""TorchScript: crops in, the reference's heatmaps out, at any batch, and nothing of the exporting machine in it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import posert
from posert.export.graph.reference import ExportError, Reference, random_crops
from posert.export.graph.to_torchscript import to_torchscript

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def data(narrow_reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("torchscript") / "torchscript.pt"
    to_torchscript(narrow_reference, path)
    return path.read_bytes()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equals_the_reference_at_any_batch(data: bytes, narrow_reference: Reference, count: int) -> None:
    crops = random_crops(narrow_reference.contract, count, seed=count)
    with torch.inference_mode():
        seen = torch.jit.load(io.BytesIO(data))(torch.from_numpy(crops)).numpy()
    (expected,) = narrow_reference.infer(crops)
    # batch-norms are folded: 1e-5 of the range, as for the graphs
    np.testing.assert_allclose(seen, expected, rtol=0, atol=5e-5 * float(np.abs(expected).max()))


def test_weights_are_embedded_and_frozen(data: bytes) -> None:
    loaded = torch.jit.load(io.BytesIO(data))
    assert not list(loaded.parameters())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        constants = sum(i.file_size for i in archive.infolist() if "/constants/" in i.filename)
    assert constants > 4 * 100_000  # the narrow network has more than 100,000 weights


def test_nothing_of_this_machine(data: bytes) -> None:
    """The tracer records where every line of the network's source lies."""
    checkout = str(Path(posert.__file__).parent)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            content = archive.read(info)
            for text in (checkout, str(Path.home()), "site-packages", ".py("):
                assert text.encode() not in content, (info.filename, text)


def test_a_network_that_tracing_changes_is_caught(narrow_reference: Reference, tmp_path: Path) -> None:
    class BatchSized(nn.Module):
        """The tracer takes `len` for a constant: right at the batch that was traced, wrong at others."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images) * float(len(images))

    with pytest.raises(ExportError, match="the TorchScript module differs"):
        to_torchscript(Reference(BatchSized(narrow_reference.network), narrow_reference.contract), tmp_path / "x.pt")
