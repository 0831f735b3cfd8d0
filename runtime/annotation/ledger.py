"""What became of each shard, as the journal tells it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from ..bundle.schema import check_shape
from ..errors import InputError
from .folder import FRAMES, JOURNAL, PEOPLE
from .journal import Journal
from .output import Output
from .plan import Plan
from .shard import Shard

log = logging.getLogger("posert")

_DONE = {"shard": int, "done": bool, "frames": int, "people": int, "failed": {"*": int}, "bytes": [int], "*": object}
_FAILED = {"shard": int, "done": bool, "why": str, "*": object}
_MORE = {"note?": (str, NoneType), "crc32?": [int], "*": object}


@dataclass(frozen=True)
class Outcome:
    """What became of a shard.

    Attributes:
        done: whether it has results.
        frames: that were read, with those that failed.
        people: who was found.
        failed: why frames failed, with how many did.
        why: what else is wrong; of a shard without results, why it has none.
        crc32: of its two files, that of the frames and that of the people; empty where the journal does not tell.
    """

    done: bool
    frames: int = 0
    people: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    why: str = ""
    crc32: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing failed."""
        return self.done and not self.failed and not self.why


class Ledger:
    """Outcomes by number of shard, kept in the journal of a folder.

    A shard whose files are not there, or do not have the size that the journal tells, has no outcome: it is done again.

    Raises InputError: the journal cannot be read or written.
    """

    def __init__(self, output: Output) -> None:
        self._journal = Journal(output.state / JOURNAL)
        self.outcomes: dict[int, Outcome] = {}
        self.lost = 0
        """Shards that were done and whose files are gone."""
        sizes: dict[int, list[int]] = {}
        for record in self._journal.records():
            if not _fits(record):
                self._journal.damaged += 1
                continue
            number = record["shard"]
            if record["done"]:
                sizes[number] = record["bytes"]
            self._take(number, record)
        size = output.sizes()
        for number, expected in sizes.items():
            if [size(f"{part}/{number:08d}.parquet") for part in (FRAMES, PEOPLE)] != expected:
                del self.outcomes[number]
                self.lost += 1
        if self._journal.damaged:
            log.warning("%s: %d damaged lines; what they told is done again", self._journal.path, self._journal.damaged)

    def check(self, plan: Plan) -> None:
        """Raise InputError: the journal tells of shards that the plan does not have, whose results would be lost."""
        if self.outcomes and (last := max(self.outcomes)) >= len(plan):
            raise InputError(
                f"{plan.path}: has {len(plan)} shards, and the journal tells of shard {last}: the plan was cut off or "
                "replaced. Put the one of this folder back, or annotate into a new folder"
            )

    def done(self, shard: Shard, told: Mapping[str, Any]) -> None:
        """Keep that a shard has results. Raises InputError: the journal cannot be written."""
        self._add({"shard": shard.number, "done": True, **told})

    def failed(self, shard: Shard, why: str) -> None:
        """Keep that a shard has none; results that it has from an earlier run stay. Raises InputError: as `done`."""
        self._add({"shard": shard.number, "done": False, "why": why})

    def left(self, shards: Iterable[Shard], retry: bool) -> list[Shard]:
        """What is to be done: shards without an outcome, and with `retry` those of which something failed."""
        found = []
        for shard in shards:
            outcome = self.outcomes.get(shard.number)
            if outcome is None or (retry and not outcome.whole):
                found.append(shard)
        return found

    def failures(self) -> Counter[str]:
        """Why frames and shards failed, with how many did."""
        causes: Counter[str] = Counter()
        for outcome in self.outcomes.values():
            causes.update(outcome.failed)
            if outcome.why:
                causes[outcome.why] += 1
        return causes

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _add(self, record: dict[str, Any]) -> None:
        self._journal.add(record)
        self._take(record["shard"], record)

    def _take(self, number: int, record: Mapping[str, Any]) -> None:
        if record["done"]:
            told = record["frames"], record["people"], dict(record["failed"]), record.get("note") or ""
            self.outcomes[number] = Outcome(True, *told, tuple(record.get("crc32") or ()))
        elif number not in self.outcomes or not self.outcomes[number].done:
            self.outcomes[number] = Outcome(False, why=record["why"])


def _fits(record: dict[str, Any]) -> bool:
    """Whether a record tells what the ledger wants to know."""
    try:
        check_shape(record, _DONE if record.get("done") is True else _FAILED, "the record")
        check_shape(record, _MORE, "the record")
    except ValueError:
        return False
    numbers = [record["shard"], record.get("frames", 0), record.get("people", 0), *record.get("failed", {}).values()]
    return bool(min(numbers) >= 0)
