"""The exceptions a user can meet. Every message says what was seen, what was expected and what fixes it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class PosertError(Exception):
    """The user's mistake or a missing piece: the command line prints the message and ends with status 2."""

    exit_status = 2


class BundleError(PosertError):
    """A .pose file that is damaged, foreign, tampered with or of another schema version."""


class ContractError(PosertError):
    """A contract with a value that no network can have."""


class ConfigError(PosertError):
    """A config, experiment or data set file that cannot be read, or that describes no network that posert runs."""


class BackendError(PosertError):
    """A backend that is not installed, or that refused a model."""


class InputError(PosertError):
    """A frame, boxes, an image file or an annotation file that cannot be used."""


class CheckpointError(PosertError):
    """A checkpoint that cannot be read, or does not fit the architecture."""


class CatalogError(PosertError):
    """A model, architecture or data set that the catalog does not know."""


class DetectorError(PosertError):
    """A detector that is not recognised or does not fit, or whose outputs cannot be boxes."""


class ServerError(PosertError):
    """A model server that is not installed, does not start, does not answer, or serves something else."""


class CalibrationError(PosertError):
    """Calibration data or a graph that cannot be calibrated."""


class GateError(PosertError):
    """A build or a check whose accuracy fell: the work was done and judged, and the verdict is no (status 1)."""

    exit_status = 1


@contextlib.contextmanager
def naming(*files: str | os.PathLike[str] | None) -> Iterator[None]:
    """Errors of the block name these files: what checks a record or runs a graph does not know where it was read."""
    names = [str(file) for file in files if file is not None]
    try:
        yield
    except PosertError as error:
        if any(os.path.basename(name) in str(error) for name in names):
            raise
        raise type(error)(f"{' and '.join(names)}: {error}") from error
