"""Conversion of a float32 ONNX graph to float16 and int8: calibration, Q/DQ placement, mixed-precision search."""

from .cache import CalibrationCache, read_cache, write_cache
from .calibrated import Calibrated, calibrate
from .fp16 import to_fp16
from .images import CalibrationSet, crops_from_coco, folder
from .looks import image_facts, phash
from .merging import merge_caches
from .overlap import EvaluationImages
from .placement import Placement, place
from .qdq import Quantized, quantize
from .ranges import CalibrationState, Ranges, collect
from .search import find_float_blocks
from .sensitivity import block_sensitivity

__all__ = [
    "Calibrated",
    "CalibrationCache",
    "CalibrationSet",
    "CalibrationState",
    "EvaluationImages",
    "Placement",
    "Quantized",
    "Ranges",
    "block_sensitivity",
    "calibrate",
    "collect",
    "crops_from_coco",
    "find_float_blocks",
    "folder",
    "image_facts",
    "merge_caches",
    "phash",
    "place",
    "quantize",
    "read_cache",
    "to_fp16",
    "write_cache",
]
