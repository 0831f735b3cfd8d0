"""Commands of posert, run in the worker's own process."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from typing import Any

from posert.runtime.cli.main import main
from posert.tests.campaign.case import Defect, Refusal


def posert(*arguments: object) -> Any:
    """Run a command with --json. Returns the value that it prints, with the status 0 or 1.

    Raises Refusal: status 2. Defect: any other status, or not exactly one JSON value on standard output.
    """
    out, err = io.StringIO(), io.StringIO()
    handlers = logging.root.handlers[:]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([*map(str, arguments), "--json"])
        finally:
            logging.root.handlers[:] = handlers
    text, errors = out.getvalue(), err.getvalue()
    words = " ".join(map(str, arguments[:1]))
    if "Traceback (most recent call last)" in errors or status not in (0, 1, 2):
        lines = errors.strip().splitlines()
        place = [line.strip() for line in lines if line.strip().startswith("File") and "/posert/" in line]
        last = next((line for line in reversed(lines) if ": " in line and "internal error" not in line), "")
        where = place[-1].split("/")[-1].replace('", line', " line").split(",")[0] if place else ""
        raise Defect(f"status {status}: {words}: {last.split(':')[0]} {where}", errors[-1500:])
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Defect(f"no JSON: {words}", f"{error}: {text[:300]!r} {errors[-200:]!r}") from error
    if status == 2:
        raise Refusal(f"{value.get('kind')} of {words}", str(value.get("error")))
    return value
