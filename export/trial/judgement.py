"""Which of the usual mistakes would explain that a network's joints miss their labels.

What a contract might say instead is tried one thing at a time on the same people, by the code that the runtime runs.
The best one that labels tell from chance is taken over, and the search goes on from there: what is named second
improves on the first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...runtime.bundle.contract import Contract
from ...runtime.system.progress import Report
from .agreement import Agreement, Change, agreement
from .alternatives import Alternative
from .network import Float, Subjects
from .search import Search

MIN_IMAGES = 8
"""On fewer images the interval of a difference means little."""

_MOST = 4  # changes that are named
_ALSO_GOOD = 0.6  # of the largest gain: another decode rule mends nearly as much


@dataclass(frozen=True)
class Judgement:
    """What labels say about a contract.

    Attributes:
        people, images: on how many.
        agreement: of the contract as it is.
        found: what would improve the agreement, each on top of those before it; empty: nothing shown.
        tried: every alternative against the contract as it is; those of the flip test on top of `found`.
        mended: the contract with all of `found`.
        xy: `(N, K, 2)` px of the frame: the joints by the contract as it is.
        note: why nothing was judged; empty if it was.
    """

    people: int
    images: int
    agreement: Agreement
    found: tuple[Change, ...]
    tried: tuple[Change, ...]
    mended: Contract = field(repr=False)
    xy: Float = field(repr=False)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        values = {k: v for k, v in vars(self).items() if k not in ("xy", "agreement", "found", "tried", "mended")}
        changes = {name: [asdict(change) for change in getattr(self, name)] for name in ("found", "tried")}
        return {**values, "agreement": asdict(self.agreement), **changes, "mended": self.mended.to_json()}


def judge(subjects: Subjects, report: Report = lambda what, done, total: None) -> Judgement:
    """Compare the contract's joints with labels, and the joints of every alternative.

    Args:
        subjects: their people have labels.
        report: told of progress.

    Raises:
        InputError: a frame or a box cannot be used, or the outputs are not finite.
    """
    search = Search(subjects, report)
    xy = search.xy
    own, images = agreement(search.distance(xy)), len(np.unique(subjects.people.image))
    if images < MIN_IMAGES:
        note = f"{images} labelled images are too few to tell a mistake from chance; at least {MIN_IMAGES} are needed"
        return Judgement(len(subjects.people), images, own, (), (), subjects.contract, xy, note)
    found: list[Change] = []
    tried: list[Change] = []
    while len(found) < _MOST:
        changes = search.round()
        tried = tried or [change for change, _ in changes]
        named = [(change, alternative) for change, alternative in changes if change.named]
        if not named:
            break
        best, alternative = _preferred(named)
        found.append(best)
        search.take(alternative)
    changes = search.flip_round()
    tried += [change for change, _ in changes]
    best_flip = max((c for c in changes if c[0].named), key=lambda c: c[0].gain, default=None)
    if best_flip is not None:
        found.append(best_flip[0])
        search.take(best_flip[1])
    tried.sort(key=lambda change: -change.gain)
    people = len(subjects.people)
    return Judgement(people, images, own, tuple(found), tuple(tried), search.contract, xy)


def _preferred(named: list[tuple[Change, Alternative]]) -> tuple[Change, Alternative]:
    """The change with the largest gain; of decode rules that are about as good, the plainest.

    Most networks are trained for `default`: a rule that reads the same map more finely is a choice.
    """
    best = max(named, key=lambda c: c[0].gain)
    if best[0].kind != "decoding":
        return best
    near = [c for c in named if c[0].kind == "decoding" and c[0].gain >= _ALSO_GOOD * best[0].gain]
    return next((c for c in near if c[1].contract.decode in ("default", "msra")), best)
