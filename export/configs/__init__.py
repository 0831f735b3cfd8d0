"""Contracts from other people's files: configs, experiment files, checkpoints, ONNX files. Needs no torch.

Files are read as data: nothing in them is imported or executed, and each has a budget of time and memory.

>>> from posert.export.configs import read_description
>>> description = read_description("td-hm_hrnet-w32_8xb64-210e_coco-256x192.py")  # doctest: +SKIP
>>> description.contract.decode  # doctest: +SKIP
'msra'
"""

from .dataset_file import read_joints
from .description import Description
from .joints import Joints
from .recognise import read_description

__all__ = ["Description", "Joints", "read_description", "read_joints"]
