"""What all scripts of benchmarks/ share beside their work: how they end, and the rows that a stopped one leaves."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...runtime.errors import PosertError

Main = Callable[[], int]


def script(*, goes_on: bool) -> Callable[[Main], Main]:
    """An entry point that ends with a message and an exit status, whatever happens: an error of posert has its own, an
    interrupt 130. `goes_on` says that finished rows are kept and not measured again."""

    def wrap(main: Main) -> Main:
        @functools.wraps(main)
        def whole() -> int:
            try:
                return main()
            except PosertError as error:
                print(error, file=sys.stderr)
                return error.exit_status
            except KeyboardInterrupt:
                more = "; what is finished is kept, and the same command goes on" if goes_on else ""
                print(f"interrupted{more}", file=sys.stderr)
                return 130

        return whole

    return wrap


def finished(state: Path) -> Iterator[dict[str, Any]]:
    """The rows that `keep` wrote; a line that a kill cut off is left out."""
    for line in state.read_text().splitlines() if state.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def keep(state: Path, row: dict[str, Any]) -> None:
    """Put a row behind those that are finished."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with state.open("a") as file:
        file.write("\n" + json.dumps(row))  # on a line of its own even behind one that was cut off
