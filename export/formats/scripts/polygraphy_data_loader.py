"""The data for other tools, as each wants it; nothing of posert is needed.

polygraphy:    --data-loader-script data_loader.py (the golden crops), or data_loader.py:calibration
ONNX Runtime:  quantize_static(..., calibration_data_reader=CalibrationReader())
NNCF:          nncf.quantize(model, nncf.Dataset(list(calibration()), lambda feed: feed))
ModelOpt:      --calibration_data_path calibration.npz
"""

from pathlib import Path

import numpy as np

here = Path(__file__).parent


def load_data():
    """The golden crops, as the graph takes them."""
    from polygraphy.json import load_json

    yield from load_json(str(here / "inputs.json"))


def calibration():
    """The crops to calibrate on, one at a time; `posert export polygraphy --calib` writes them."""
    with np.load(here / "calibration.npz") as crops:
        ((name, every),) = crops.items()
    for one in every:
        yield {name: one[None]}


class CalibrationReader:
    """A `CalibrationDataReader` of ONNX Runtime."""

    def __init__(self):
        self.rewind()

    def get_next(self):
        """The next crop, None after the last."""
        return next(self.crops, None)

    def rewind(self):
        """Begin again."""
        self.crops = calibration()
