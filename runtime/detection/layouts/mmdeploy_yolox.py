"""YOLOX of MMDetection as mmdeploy exports it: what rtmlib and the RTMPose project use beside RTMDet.

Pixels as they are, BGR. MMDetection resizes with halves rounded up and maps back by the ratio of the rounded sides.
"""

from __future__ import annotations

from ..picture import Picture
from . import Layout
from ._mmdeploy import SOURCE, decode, reads

LAYOUT = Layout(
    name="mmdeploy_yolox",
    summary="YOLOX of MMDetection with NMS in the graph, exported by mmdeploy",
    source=SOURCE,
    picture=Picture(color="bgr", placement="top_left"),
    reads=reads,
    decode=decode,
    fits=lambda graph: graph.mentions("multi_level_conv_obj"),  # a part of YOLOXHead
)
