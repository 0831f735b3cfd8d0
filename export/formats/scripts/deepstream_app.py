"""Keypoints of the people in videos, one line of JSON each: python app.py DETECTOR_CONFIG file:///VIDEO ...

DETECTOR_CONFIG is the nvinfer configuration of a detector whose class 0 is people and whose gie-unique-id is 1, such as
PeopleNet's of the samples. pyservicemaker comes with the DeepStream SDK. Frames get a black border: nvinfer crops
nothing beyond a frame, and a box that was cut off there would show a person stretched.
"""

import json
import sys
from multiprocessing import Process
from pathlib import Path

from probes import BORDER, PadBoxes, ReadKeypoints
from pyservicemaker import Pipeline, Probe

WIDTH, HEIGHT = 1920, 1080  # of the frames behind the muxer, which joints are in px of


def main(detector, sources):
    border = 2 * round(HEIGHT * BORDER / 2)
    size = WIDTH + 2 * border, HEIGHT + 2 * border
    pipeline = Pipeline("pose")
    pipeline.add("nvstreammux", "mux", {"batch-size": len(sources), "width": WIDTH, "height": HEIGHT})
    for index, uri in enumerate(sources):
        pipeline.add("nvurisrcbin", f"source{index}", {"uri": uri})
        pipeline.link((f"source{index}", "mux"), ("", "sink_%u"))
    pipeline.add("nvvideoconvert", "border", {"dest-crop": f"{border}:{border}:{WIDTH}:{HEIGHT}"})
    pipeline.add("capsfilter", "caps", {"caps": "video/x-raw(memory:NVMM),width={},height={}".format(*size)})
    pipeline.add("nvinfer", "detector", {"config-file-path": detector})
    pipeline.add("nvinfer", "pose", {"config-file-path": str(Path(__file__).parent / "config_infer_secondary.txt")})
    pipeline.add("fakesink", "sink", {"sync": False})
    pipeline.link("mux", "border", "caps", "detector", "pose", "sink")
    pipeline.attach("detector", Probe("pad_boxes", PadBoxes(*size)))
    tell = ReadKeypoints(lambda person: print(json.dumps(person), flush=True), border)
    pipeline.attach("pose", Probe("read_keypoints", tell))
    pipeline.start().wait()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    process = Process(target=main, args=(sys.argv[1], sys.argv[2:]))  # the pipeline does not see Ctrl-C
    try:
        process.start()
        process.join()
    except KeyboardInterrupt:
        process.terminate()
