"""The data sets that people train 2D pose on: one file each, found by name.

`dataset("coco")` says what a pipeline must know about the joints (order, left/right partners, skeleton) and how the
published figures of that data set are computed. To add a data set, add a file with a `DATASET`, or install a package
with an entry point in the group "posert.datasets".
"""

from __future__ import annotations

from ..metrics import PROTOCOLS, Dataset, Metric, check_protocol
from ..registry import Registry

__all__ = ["DATASETS", "PROTOCOLS", "Dataset", "Metric", "check_protocol", "dataset", "datasets"]


DATASETS = Registry("dataset", __name__, "DATASET", "posert.datasets", Dataset)


def datasets() -> list[str]:
    """Names of the known data sets, without plug-ins that do not import (`posert doctor` lists those)."""
    return list(DATASETS.specs())


def dataset(name: str) -> Dataset:
    """The constants of one data set.

    Raises:
        CatalogError: for an unknown name; the nearest and all known names are listed.
    """
    return DATASETS.load(name)
