"""Keypoints of the people in videos, one line of JSON each: python app.py DETECTOR_CONFIG file:///VIDEO ...

DETECTOR_CONFIG is the nvinfer configuration of a detector whose class 0 is people and whose gie-unique-id is 1, such as
PeopleNet's of the samples. pyservicemaker comes with the DeepStream SDK.
"""

import json
import sys
from multiprocessing import Process
from pathlib import Path

from probes import PadBoxes, ReadKeypoints
from pyservicemaker import Flow, Pipeline, Probe, RenderMode

WIDTH, HEIGHT = 1920, 1080  # of the frames behind the muxer, which joints are in px of


def main(detector, sources):
    tell = ReadKeypoints(lambda person: print(json.dumps(person), flush=True))
    flow = Flow(Pipeline("pose")).batch_capture(sources, width=WIDTH, height=HEIGHT).infer(detector)
    flow = flow.attach(what=Probe("pad_boxes", PadBoxes(WIDTH, HEIGHT)))
    flow = flow.infer(str(Path(__file__).parent / "config_infer_secondary.txt"))
    flow.attach(what=Probe("read_keypoints", tell)).render(mode=RenderMode.DISCARD, enable_osd=False, sync=False)()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    process = Process(target=main, args=(sys.argv[1], sys.argv[2:]))  # the pipeline does not see Ctrl-C
    try:
        process.start()
        process.join()
    except KeyboardInterrupt:
        process.terminate()
