"""Reference model -> TorchScript, normalisation included: crops in, heatmaps out, as in the bundle's ONNX graphs."""

from __future__ import annotations

import io
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch

from .memory import give_back
from .reference import Reference, compare, random_crops


def to_torchscript(reference: Reference) -> bytes:
    """Trace and freeze the reference; the saved module is compared with it at a batch size it was not traced with.

    Raises:
        ExportError: the traced module does not compute what the network computes.
    """
    c = reference.contract
    crops = torch.from_numpy(random_crops(c, 3))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's deprecation notices: TorchScript is what was asked for
        data = _frozen(reference, crops[:2])
        loaded = torch.jit.load(io.BytesIO(data))
        compare("the TorchScript module", loaded(crops).numpy(), reference(crops).numpy())
    del loaded
    give_back()
    return data


def _frozen(reference: Reference, crops: torch.Tensor) -> bytes:
    """The archive, by way of files: each copy in memory would be another one of the weights.

    The trace is saved and loaded before it is frozen: what is frozen in the process that traced it, weights included,
    stays in PyTorch's own table of traced code for ever. The archive's debug records are left out: they hold the source
    paths of the exporting machine.
    """
    kept = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="posert-") as folder:
        path = str(Path(folder, "module.pt"))
        torch.jit.save(torch.jit.trace(reference, (crops,), check_trace=False), path)
        module = torch.jit.freeze(torch.jit.load(path))
        torch.jit.save(module, path)
        del module
        give_back()
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED) as target:
            for info in source.infolist():
                if not info.filename.endswith(".debug_pkl"):
                    target.writestr(zipfile.ZipInfo(info.filename), source.read(info))
    return kept.getvalue()
