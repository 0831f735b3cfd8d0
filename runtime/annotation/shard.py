"""A part of the work, and what its files are called."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any, get_args

from ..bundle.schema import check_shape
from .sources import Kind

_SHAPE = {
    **{"number": int, "kind": str, "source": str, "names?": [str], "first?": int},
    **{"stop?": (int, NoneType), "frames?": (int, NoneType)},
}


@dataclass(frozen=True)
class Shard:
    """A part of the work that is done as a whole, by one worker.

    Attributes:
        number: its place in the plan, from 0, which is the order of results.
        kind: as of `Found`.
        source: absolute path of the video, the tar file, or the folder of the images.
        names: of its images, relative to that folder.
        first: position of its first frame in the source.
        stop: position after its last frame of a video; None: to its end.
        frames: how many there are, as far as it is known: what a video declares can be slightly off.
    """

    number: int
    kind: Kind
    source: str
    names: tuple[str, ...] = ()
    first: int = 0
    stop: int | None = None
    frames: int | None = None

    @property
    def name(self) -> str:
        """Of its files, without an ending."""
        return f"{self.number:08d}"

    @property
    def title(self) -> str:
        """For messages."""
        if self.kind == "images":
            more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
            return f"shard {self.number} ({self.source}/{self.names[0]}{more})"
        span = f", frames {self.first} to {'its end' if self.stop is None else self.stop - 1}"
        return f"shard {self.number} ({self.source}{span if self.first or self.stop is not None else ''})"

    def to_json(self) -> dict[str, Any]:
        """JSON values, without fields that have their default."""
        blank = Shard(0, "images", "")
        return {k: v for k, v in asdict(self).items() if k in ("number", "kind", "source") or v != getattr(blank, k)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Shard:
        """The shard of `to_json`. Raises ValueError: it is none."""
        check_shape(values, _SHAPE, "a shard")
        shard = cls(**{**values, "names": tuple(values.get("names", ()))})
        numbers = shard.number, shard.first, shard.stop or 0, shard.frames or 0
        if shard.kind not in get_args(Kind) or min(numbers) < 0 or (shard.kind == "images") != bool(shard.names):
            raise ValueError(f"{shard} is none")
        return shard
