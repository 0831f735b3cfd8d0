"""Reference model -> TorchScript, normalisation included: crops in, heatmaps out, as in the bundle's ONNX graphs."""

from __future__ import annotations

import io
import warnings
import zipfile

import torch

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
        data = _saved(torch.jit.freeze(torch.jit.trace(reference, (crops[:2],), check_trace=False)))
        loaded = torch.jit.load(io.BytesIO(data))
        compare("the TorchScript module", loaded(crops).numpy(), reference(crops).numpy())
    return data


def _saved(module: torch.jit.ScriptModule) -> bytes:
    """In a function of its own, so that the module and the stream are gone before the bytes are loaded.

    The archive's debug records are left out: they hold the source paths of the exporting machine.
    """
    stream, kept = io.BytesIO(), io.BytesIO()
    torch.jit.save(module, stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            if not info.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(info.filename), source.read(info))
    return kept.getvalue()
