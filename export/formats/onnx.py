"""An ONNX graph that runs anywhere: its contract inside and beside it, a golden crop, and a script that checks it."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from . import Format, Write
from ._arguments import KEYPOINTS, add_graph_arguments

if TYPE_CHECKING:
    from ...runtime.bundle.archive import Bundle

_SCRIPTS = Path(__file__).with_name("scripts")


def _plan(bundle: Bundle, args: argparse.Namespace) -> Write:
    from ._golden import make_golden
    from ._graph import make_graph, sidecar, wanted_graph

    wanted = wanted_graph(bundle, args)

    def write(folder: Path) -> None:
        import numpy as np

        model = make_graph(bundle, wanted)
        name = f"{bundle.path.stem}.{wanted.artifact.name}.onnx"
        np.savez_compressed(folder / "golden.npz", **make_golden(bundle, wanted, model))
        (folder / name).write_bytes(model.SerializeToString())
        (folder / f"{name}.json").write_text(json.dumps(sidecar(bundle, wanted), indent=1))
        script = "run_keypoints.py" if wanted.output == KEYPOINTS else "run_heatmaps.py"
        shutil.copyfile(_SCRIPTS / script, folder / "run.py")

    return write


FORMAT = Format("onnx", "Write an ONNX graph that gives keypoints or heatmaps", add_graph_arguments, _plan)
