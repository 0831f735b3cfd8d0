"""Reference model -> TorchScript, normalisation included: crops in, heatmaps out, as in the bundle's ONNX graphs."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import torch

from ...runtime.system.files import TemporaryFolder
from ...runtime.system.memory import trim_heap
from .reference import Reference, arrays_of, compare, random_crops


def to_torchscript(reference: Reference, path: Path) -> None:
    """Trace and freeze the reference into a file; it is compared with it at a batch size it was not traced with.

    Raises ExportError: the traced module does not compute what the network computes.
    """
    c = reference.contract
    crops = torch.from_numpy(random_crops(c, 3))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's deprecation notices: TorchScript is what was asked for
        _freeze(reference, crops[:2], path)
        loaded = torch.jit.load(path)
        compare("the TorchScript module", arrays_of(loaded(crops)), reference.infer(crops.numpy()))
    del loaded
    trim_heap()


def _freeze(reference: Reference, crops: torch.Tensor, path: Path) -> None:
    # By way of files: each copy in memory would be another one of the weights. The trace is saved and loaded before it
    # is frozen: what is frozen in the process that traced it, weights included, stays in PyTorch's own table of traced
    # code for ever. The archive's debug records are left out: they hold the source paths of the exporting machine.
    with TemporaryFolder("torchscript") as folder:
        draft = str(Path(folder, "module.pt"))
        torch.jit.save(torch.jit.trace(reference, (crops,), check_trace=False), draft)
        trim_heap()
        module = torch.jit.freeze(torch.jit.load(draft))
        torch.jit.save(module, draft)
        del module
        trim_heap()
        with zipfile.ZipFile(draft) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
            for info in source.infolist():
                if not info.filename.endswith(".debug_pkl"):
                    target.writestr(zipfile.ZipInfo(info.filename), source.read(info))
