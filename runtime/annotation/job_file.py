"""The file in the folder of an annotation that says what kind of results are in it."""

from __future__ import annotations

import json
from typing import Any

from ..bundle.archive import Bundle
from ..bundle.contract import Contract
from ..bundle.schema import check_shape
from ..errors import BundleError, InputError
from ..system.files import atomic_write
from ..system.input_file import read_text_file
from ..system.json_text import parse_json
from .folder import JOB
from .output import Output
from .settings import Settings

_SCHEMA = 1
_SHAPE = {"annotation": int, "fingerprint": {"*": object}, "settings?": object, "contract": object}


def read_job(output: Output) -> tuple[dict[str, Any], Contract]:
    """The fingerprint of the results, and the contract of the network. Raises InputError: the file cannot be read."""
    try:
        there = parse_json(read_text_file(output.state / JOB))
        check_shape(there, _SHAPE, "the file")
        contract = Contract.from_json(there["contract"])
    except (OSError, ValueError, BundleError) as error:
        reason = error.__cause__ if isinstance(error, BundleError) else error  # which names no bundle
        raise InputError(f"{output.target}/{JOB}: cannot be read ({reason}); choose another folder") from error
    if there["annotation"] != _SCHEMA:
        seen = there["annotation"]
        raise InputError(f"{output.target}/{JOB}: of schema {seen}, expected {_SCHEMA}; choose another folder")
    return there["fingerprint"], contract


def write_job(output: Output, settings: Settings, fingerprint: dict[str, Any]) -> None:
    """Write the file of a new folder. Raises InputError: it cannot be written."""
    with Bundle(settings.bundle) as bundle:
        contract = bundle.contract.to_json()
    job = {"annotation": _SCHEMA, "fingerprint": fingerprint, "settings": settings.to_json(), "contract": contract}
    with atomic_write(output.state / JOB) as file:
        file.write(json.dumps(job, indent=1).encode() + b"\n")
