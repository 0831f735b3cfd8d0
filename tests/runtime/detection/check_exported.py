"""What ultralytics itself exports, against its own code: run by hand, because the package is large and under the AGPL.

    PYTHONPATH=... python tests/runtime/detection/check_exported.py

Needs what make_goldens.py needs. Networks have random weights, with the last layer of the class scores scaled as there.
Nothing of what is exported is kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from make_goldens import NMS, SCORE, ordered, picture, runner, standardise, torchvision_stand_in

from posert.runtime.detection import Detector

KINDS = {
    "yolov8n.yaml": "ultralytics",
    "yolo11n.yaml": "ultralytics",
    "yolov10n.yaml": "ultralytics_end2end",
    "yolo26n.yaml": "ultralytics_end2end",
}
SIZE = 160


def main() -> None:
    torchvision_stand_in()
    import onnx
    import torch
    from ultralytics import YOLO
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    def prepared(frame: np.ndarray) -> np.ndarray:
        placed = LetterBox((SIZE, SIZE), auto=False)(image=frame)
        return np.ascontiguousarray(placed[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255

    inputs = [torch.from_numpy(prepared(picture(seed))) for seed in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, layout in ((name, KINDS[name]) for name in sys.argv[1:] or KINDS):
            torch.manual_seed(15)
            model = YOLO(name)
            network = model.model.eval()
            network.names = {i: f"thing {i}" for i in range(80)} | {0: "person"}
            head = network.model[-1]
            branches = [head.cv3] + ([head.one2one_cv3] if layout.endswith("end2end") else [])

            def run(network: torch.nn.Module = network) -> None:
                with torch.no_grad():
                    for x in inputs:
                        network(x)

            for branch in branches:
                standardise([level[-1] for level in branch], -7.0, 2.5, run)
            with contextlib.redirect_stdout(io.StringIO()):
                path = model.export(format="onnx", imgsz=SIZE, simplify=False, verbose=False)
            session = runner(onnx.load(path))
            for backend in ("onnxruntime", "openvino"):
                detector = Detector(
                    path, backend=backend, classes=None, score=SCORE, nms=None if "end2" in layout else NMS
                )
                assert detector.layout.name == layout, detector.description
                assert detector.names[0] == "person" and Detector(path, backend=backend).label == 0
                worst, boxes, other = 0.0, 0, 0
                for seed in range(50):
                    frame = picture(seed)
                    (found,) = non_max_suppression(torch.from_numpy(session(prepared(frame))[0]), SCORE, NMS)
                    wanted = ordered(
                        scale_boxes((SIZE, SIZE), found[:, :4], frame.shape[:2]), found[:, 4], found[:, 5], frame
                    )
                    seen = detector(frame)
                    boxes += len(seen)
                    if len(seen) != len(wanted[0]) or (seen.label != wanted[2]).any():
                        other += 1
                    elif len(seen):
                        worst = max(worst, float(np.abs(seen.boxes - wanted[0]).max()))
                print(
                    f"{name} on {backend}: {boxes} boxes, at most {worst:.1e} px apart; {other} of 50 pictures differ"
                )
            print(f"  {detector.description}")


if __name__ == "__main__":
    main()
