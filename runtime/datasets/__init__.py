"""The data sets that people train 2D pose on: one file each, found by name.

`dataset("coco")` says what a pipeline must know about the joints (order, left/right partners, skeleton) and how the
published figures of that data set are computed. To add a data set, add a file with a `DATASET`.
"""

from __future__ import annotations

from ..errors import CatalogError
from ..metrics import PROTOCOLS, Dataset, Metric, check_protocol
from ..registry import load_module, module_names, unknown_name

__all__ = ["PROTOCOLS", "Dataset", "Metric", "check_protocol", "dataset", "datasets"]


def datasets() -> list[str]:
    """Names of the known data sets, without importing them."""
    return module_names(__name__)


def dataset(name: str) -> Dataset:
    """The constants of one data set.

    Raises:
        CatalogError: for an unknown name; the nearest and all known names are listed.
    """
    if name not in datasets():
        raise CatalogError(unknown_name("dataset", name, datasets()))
    found: Dataset = load_module(__name__, name).DATASET
    return found
