"""A progress bar on standard error, where there is a terminal and rich is installed; otherwise nothing is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar.

    Args:
        iterable: what is iterated.
        description: a few words before the bar.
        total: how many items will come; None asks the iterable for its length, and where it has none counts upwards.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:  # the edge install has no rich, and a bar is no reason to need it
        yield from iterable
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from iterable
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(iterable, total, description=description)
