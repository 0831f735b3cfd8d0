"""What a long command shows while it works: a line per step, with the time that is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Left

from .build.plan import Report


@contextlib.contextmanager
def steps(console: Console) -> Iterator[Report]:
    """A `Report` that draws on a console."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), Left())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():  # one step ends where the next begins
                    progress.update(task, total=progress.tasks[task].total or 1)
                    progress.update(task, completed=progress.tasks[task].total)
                tasks[what] = progress.add_task(what, total=total or None)
            if total:
                progress.update(tasks[what], completed=done, total=total)

        yield report
