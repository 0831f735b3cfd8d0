"""Where workers run: one process per GPU, or per group of processors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..backends import BACKENDS, usable_backends
from ..bundle.archive import Bundle
from ..errors import BackendError, InputError
from ..selection import Selection, select
from ..system.machine import machine, processors

AUTO = "auto"
_WORKERS = 8  # of `auto`, at most: each holds a network of its own
_EXPECTED = (
    "expected auto, or groups of processors such as cpu:0,1 (two workers) or cpu:0-3 (one worker), or GPUs such as "
    "cuda:0,1 (two workers)"
)


@dataclass(frozen=True)
class Device:
    """What one worker runs on.

    Attributes:
        kind: "cpu" or "cuda".
        numbers: of the processors, or of the one GPU.
    """

    kind: Literal["cpu", "cuda"]
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        first, last = self.numbers[0], self.numbers[-1]
        together = last - first + 1 == len(self.numbers)
        return f"{self.kind}:{first if first == last else f'{first}-{last}' if together else self.numbers}"


def parse(text: str) -> list[Device]:
    """The devices of "KIND:NUMBERS,NUMBERS,...", where NUMBERS is one number or, of processors, `FIRST-LAST`.

    Raises InputError: another text, or a processor that this process may not use.
    """
    name, _, numbers = text.partition(":")
    groups = [_range(part) for part in numbers.split(",")]
    if name not in ("cpu", "cuda") or not all(groups) or (name == "cuda" and any(len(g) > 1 for g in groups)):
        raise InputError(f"--devices {text}: {_EXPECTED}")
    every = [number for group in groups for number in group]
    if len(set(every)) < len(every):
        raise InputError(f"--devices {text}: a number stands there twice")
    if name == "cpu" and (lacking := sorted(set(every) - set(processors()))):
        have = ",".join(map(str, processors()))
        raise InputError(f"--devices {text}: this process may use the processors {have}, not {lacking[0]}")
    return [Device("cpu" if name == "cpu" else "cuda", tuple(group)) for group in groups]


def choose(bundle: Bundle, backend: str, precision: str, devices: str) -> tuple[Selection, list[Device]]:
    """The backend and precision of all workers, and their devices; every worker runs the same.

    "auto" devices are all GPUs, or all processors that this process may use in up to 8 groups.

    Raises BackendError: nothing can run there. Raises InputError: as `parse`.
    """
    wanted = None if devices == AUTO else parse(devices)
    kind = wanted[0].kind if wanted else None
    if backend != AUTO or kind is None:
        selected = select(bundle, backend, precision)
        of = BACKENDS.load(selected.backend).device
        if kind not in (None, of):
            raise BackendError(f"--devices {devices}: the backend {selected.backend} runs on {of}, not on {kind}")
        return selected, wanted or _all(of)
    selected = select(bundle, AUTO, precision)
    if BACKENDS.load(selected.backend).device == kind:
        return selected, wanted or []
    reasons = []
    for spec in usable_backends():
        if spec.device == kind:
            try:
                return select(bundle, spec.name, precision), wanted or []
            except BackendError as error:
                reasons.append(str(error))
    why = "; ".join(reasons) or f"no backend for {kind} can run here: posert doctor says what is missing"
    raise BackendError(f"--devices {devices}: {why}")


def _all(kind: Literal["cpu", "cuda"]) -> list[Device]:
    if kind == "cuda":
        return [Device("cuda", (number,)) for number in range(max(1, machine().nvidia_gpus))]
    return [Device("cpu", group) for group in split(processors(), _WORKERS)]


def split(numbers: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Numbers in at most so many groups of neighbours, of nearly one size."""
    count = min(most, len(numbers))
    ends = [round(i * len(numbers) / count) for i in range(count + 1)]
    return [tuple(numbers[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


def _range(text: str) -> list[int]:
    """The numbers of "3" or "0-3"; none for another text."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        return []
    return list(range(int(first), int(last or first) + 1))
