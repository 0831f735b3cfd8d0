"""Reference model -> TorchScript, normalisation included: crops in, heatmaps out, as in the bundle's ONNX graphs."""

from __future__ import annotations

import io
import warnings

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
        traced = torch.jit.freeze(torch.jit.trace(reference, (crops[:2],), check_trace=False))
        stream = io.BytesIO()
        torch.jit.save(traced, stream)
        stream.seek(0)
        loaded = torch.jit.load(stream)
        compare("the TorchScript module", loaded(crops).numpy(), reference(crops).numpy())
    return stream.getvalue()
