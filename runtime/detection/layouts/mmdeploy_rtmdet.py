"""RTMDet of MMDetection as mmdeploy exports it: the detector of the RTMPose project.

BGR, normalised outside of the graph. mmdeploy's outputs are those of YOLOX: a name inside the file tells the two apart.
"""

from __future__ import annotations

from ..picture import Picture
from . import Layout
from ._mmdeploy import SOURCE, decode, reads

LAYOUT = Layout(
    name="mmdeploy_rtmdet",
    summary="RTMDet of MMDetection with NMS in the graph, exported by mmdeploy",
    source=f"{SOURCE}; mean and std: MMDetection, configs/rtmdet/rtmdet_l_8xb32-300e_coco.py",
    picture=Picture(color="bgr", placement="top_left", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)),
    reads=reads,
    decode=decode,
    fits=lambda graph: graph.mentions("rtm_cls"),  # a part of RTMDetSepBNHead
)
