"""The metrics of the published figures: one module per protocol, each with its `Metric`.

A data set names its metric (`posert.runtime.datasets`). `oks.OKS` scores any data set in COCO's format.
"""

from .spec import PROTOCOLS, Centers, Dataset, Metric, check_protocol, flip_index

__all__ = ["PROTOCOLS", "Centers", "Dataset", "Metric", "check_protocol", "flip_index"]
