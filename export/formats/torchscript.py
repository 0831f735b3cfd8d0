"""The traced module alone, for PyTorch in Python and in C++, with its contract as an extra file inside it."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.errors import InputError
from ...runtime.system.zip_errors import ZIP_ERRORS
from . import Format, Write

if TYPE_CHECKING:
    from ...runtime.bundle.archive import Bundle

_SCRIPTS = Path(__file__).with_name("scripts")
_DAMAGED = (*ZIP_ERRORS, LookupError)
EXTRA = "contract.json"
"""The extra file: `torch.jit.load(path, _extra_files={"contract.json": ""})`."""


def _plan(bundle: Bundle, args: argparse.Namespace) -> Write:
    artifact = bundle.artifacts.get("torchscript")
    if artifact is None:
        raise InputError(
            f"{bundle.name} has no TorchScript module: it was built from an ONNX file. Write that: posert export onnx"
        )

    def write(folder: Path) -> None:
        import numpy as np

        from ...runtime.selection import graph_verdict
        from ._graph import HEATMAPS, described_input, described_outputs

        golden, name = bundle.golden(), f"{bundle.path.stem}.pt"
        facts = {
            "name": bundle.name,
            "contract": bundle.contract.to_json(),
            "input": described_input(bundle.contract, "uint8"),
            "outputs": described_outputs(bundle.contract, HEATMAPS),
            "verdict": graph_verdict(bundle, artifact.name),
        }
        (folder / name).write_bytes(with_extra(bundle.read(artifact), EXTRA, json.dumps(facts, indent=1)))
        record = {"schema": 1, **facts, "model": bundle.manifest["model"], "artifact": asdict(artifact)}
        (folder / f"{name}.json").write_text(json.dumps(record, indent=1))
        arrays: dict[str, Any] = {f"outputs_{i}": output for i, output in enumerate(golden.outputs)}
        error = np.float64(max(2 * (artifact.golden_error or 0.0), 1e-4))  # as `posert verify` allows
        np.savez_compressed(folder / "golden.npz", input=golden.crops, error=error, **arrays)
        shutil.copyfile(_SCRIPTS / "run_torchscript.py", folder / "run.py")

    return write


def with_extra(module: bytes, name: str, text: str) -> bytes:
    """A TorchScript archive with one more extra file, as `torch.jit.save(..., _extra_files=...)` puts it there.

    PyTorch itself would write the paths of this machine into the archive, too. Raises InputError: it is no archive.
    """
    stream = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(module)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as target:
            for info in source.infolist():
                target.writestr(zipfile.ZipInfo(info.filename), source.read(info))
            root = source.namelist()[0].split("/")[0]
            target.writestr(zipfile.ZipInfo(f"{root}/extra/{name}"), text)
    except _DAMAGED as error:
        raise InputError(f"its TorchScript module is no archive that can be read: {error}") from error
    return stream.getvalue()


FORMAT = Format("torchscript", "Write the traced PyTorch module", lambda parser: None, _plan)
