"""Which side of a split each group of images goes to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ...runtime.errors import InputError
from .groups import Group


def assign(groups: Sequence[Group], shares: Mapping[str, float]) -> dict[str, list[Group]]:
    """The groups of each side, so that its share of the images is as near as groups allow.

    Large groups first, each to the side that lacks most; groups of one size in the order of a hash of their first name,
    so that neighbours in the file are not neighbours on a side, and the same images are split in the same way.

    Args:
        groups: see `find_groups`.
        shares: of the images, by side; they sum to 1.

    Raises:
        InputError: there are fewer groups than sides.
    """
    total = sum(len(group.names) for group in groups)
    if len(groups) < len(shares):
        largest = max(groups, key=lambda group: len(group.names))
        raise InputError(
            f"the {total} images form {len(groups)} group{'s' * (len(groups) != 1)}, and {', '.join(shares)} need one "
            f"each; the largest has {len(largest.names)} images ({'; '.join(largest.why[:3]) or largest.names[0]}). "
            "Add images of other recordings"
        )
    sides: dict[str, list[Group]] = {side: [] for side in shares}
    lacking = {side: share * total for side, share in shares.items()}
    ordered = sorted(groups, key=lambda group: (-len(group.names), _shuffled(group.names[0])))
    for left, group in zip(range(len(ordered), 0, -1), ordered, strict=True):
        empty = [side for side in sides if not sides[side]]
        # The last groups, the smallest, go where there are none yet.
        side = max(empty if left <= len(empty) else sides, key=lambda side: lacking[side])
        sides[side].append(group)
        lacking[side] -= len(group.names)
    return sides


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
