"""Two probes: before nvinfer, boxes become the rectangles to crop; after it, joints become px of the frame."""

import json
from pathlib import Path

import torch
from geometry import BORDER as BORDER
from geometry import rectangle, to_frame
from pyservicemaker import BatchMetadataOperator

FACTS = json.loads((Path(__file__).parent / "contract.json").read_text())
CONTRACT, PERSON, POSE = FACTS["contract"], 0, 2  # the detector's class of people; gie-unique-id of this network


class PadBoxes(BatchMetadataOperator):
    """Before the pose network: each person's box as the network was trained to see it; sizes with the border."""

    def __init__(self, frame_width, frame_height):
        super().__init__()
        self.size = frame_width, frame_height

    def handle_metadata(self, batch_meta):
        for frame in batch_meta.frame_items:
            for person in frame.object_items:
                if person.class_id != PERSON:
                    continue
                box = person.rect_params
                found = rectangle(box.left, box.top, box.width, box.height, *self.size, CONTRACT)
                if found is not None:
                    box.left, box.top, box.width, box.height = map(float, found)


class ReadKeypoints(BatchMetadataOperator):
    """After the pose network: calls `tell` with a dict per person, ready for JSON or Kafka; px within the border."""

    def __init__(self, tell, border):
        super().__init__()
        self.tell, self.border = tell, border

    def handle_metadata(self, batch_meta):
        for frame in batch_meta.frame_items:
            for person in frame.object_items:
                box = person.rect_params
                rect = box.left - self.border, box.top - self.border, box.width, box.height
                for output in person.tensor_items:
                    layers = output.as_tensor_output().get_layers()
                    if "keypoints" not in layers:
                        continue
                    # a copy: the pipeline uses the memory again
                    joints = torch.utils.dlpack.from_dlpack(layers["keypoints"].clone()).cpu().numpy().reshape(-1, 3)
                    named = {
                        name: [*to_frame(float(x), float(y), rect, CONTRACT), float(score)]
                        for name, (x, y, score) in zip(CONTRACT["keypoints"], joints, strict=True)
                    }
                    about = {"source": frame.pad_index, "frame": frame.frame_number, "person": person.object_id}
                    self.tell({**about, "keypoints": named})
