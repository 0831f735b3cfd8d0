"""The campaign's short form, and that it finds what is wrong: ten kinds of defects, planted one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from posert.tests.campaign.__main__ import table
from posert.tests.campaign.case import PARTS
from posert.tests.campaign.crew import run_part
from posert.tests.campaign.planted import PLANTED


@pytest.mark.parametrize("name", PARTS.names())
def test_a_part_finds_nothing(name: str, tmp_path: Path) -> None:
    part = PARTS.load(name)
    tally = run_part(name, range(part.short), seed=1, folder=tmp_path)
    assert len(tally.outcomes) == part.short
    assert not tally.defects(), "\n".join(f"{i}: {outcome}" for i, outcome in tally.defects().items())


_MANY = ("silent difference", "broken seal")  # which need more cases
_SLOW = [pytest.param(name, marks=pytest.mark.slow) if name in _MANY else name for name in PLANTED]


@pytest.mark.parametrize("name", _SLOW)
def test_a_planted_defect_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, _, kind = PLANTED[name]
    if name == "hang":
        monkeypatch.setattr("posert.tests.campaign.crew.HANG_S", 4.0)
    cases = {"hang": 5, "crash": 5, "silent difference": 200, "broken seal": 250}.get(name, 40)
    tally = run_part(part, range(cases), seed=1, folder=tmp_path, plant=name)
    assert any(kind in found for found in tally.count("defect")), tally.count("defect")


def test_a_run_resumes(tmp_path: Path) -> None:
    first = run_part("boxes", range(10), seed=1, folder=tmp_path)
    told: list[int] = []
    second = run_part("boxes", range(15), seed=1, folder=tmp_path, tell=lambda index, _: told.append(index))
    assert told == [10, 11, 12, 13, 14]
    assert {i: second.outcomes[i] for i in range(10)} == first.outcomes
    assert "| boxes | 15 |" in table([second], 1)
    again = run_part("boxes", range(15), seed=1, folder=tmp_path / "again")
    kinds = [{i: (o.result, o.kind) for i, o in run.outcomes.items()} for run in (second, again)]
    assert kinds[0] == kinds[1], "a case is not what its seed says"
