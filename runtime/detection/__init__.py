"""People in a frame, found by a detector that the user brings as one ONNX file.

>>> from posert.runtime.detection import Detector
>>> detector = Detector("yolox_m.onnx")
>>> people = detector(frame_bgr)
>>> keypoints = pose(frame_bgr, people.boxes)

`layouts/` has one file for each form that detectors' inputs and outputs have.
"""

from __future__ import annotations

from .detections import Detections
from .detector import Detector, DetectorRequest
from .layouts import LAYOUTS, Candidates, Graph, Layout
from .picture import Picture

__all__ = ["LAYOUTS", "Candidates", "Detections", "Detector", "DetectorRequest", "Graph", "Layout", "Picture"]
