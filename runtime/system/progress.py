"""Progress bars on standard error, drawn by rich."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

T = TypeVar("T")

Report = Callable[[str, int, int], None]
"""Called with (step, items done, items in all); 0 in all where the number is unknown."""


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar, which is removed at the end. Without rich or without a terminal nothing is shown.

    Args:
        iterable: the items.
        description: a few words in front of the bar.
        total: the number of items; None takes the iterable's length, or counts up if it has none.
    """
    try:
        from rich.console import Console
    except ModuleNotFoundError:  # the edge install has no rich
        yield from iterable
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from iterable
        return
    with _progress(console, transient=True) as progress:
        yield from progress.track(iterable, total, description=description)


@contextlib.contextmanager
def steps(console: Console) -> Iterator[Report]:
    """A `Report` that draws one bar per step on a console; a step ends where the next one begins."""
    with _progress(console, transient=False) as progress:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                for task in tasks.values():
                    end = progress.tasks[task].total or 1
                    progress.update(task, completed=end, total=end)
                tasks[step] = progress.add_task(step, total=total or None)
            if total:
                progress.update(tasks[step], completed=done, total=total)

        yield report


def _progress(console: Console, *, transient: bool) -> Progress:
    from rich import progress as p

    columns = (p.TextColumn("{task.description}"), p.BarColumn(), p.MofNCompleteColumn(), p.TimeElapsedColumn())
    return p.Progress(*columns, p.TimeRemainingColumn(), console=console, transient=transient)
