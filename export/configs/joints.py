"""The joints of a network: their names, which swap in a mirror image, limbs, and OKS constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...runtime.datasets import dataset, datasets
from ...runtime.errors import ConfigError
from . import mmpose_data
from .fields import Field

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Joints:
    """The K joints of a data set.

    Attributes:
        name: of the data set; posert's own name where the joints are those of one of its data sets.
        keypoints: K names, in the order of the network's channels.
        flip_pairs: pairs of joints that swap in a mirror image, 0-based.
        skeleton: pairs of joints to draw as limbs, 0-based.
        sigmas: K constants of the OKS, or none.
        notes: what was guessed, or taken from elsewhere.

    Raises:
        ConfigError: the parts do not fit each other.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: Pairs = ()
    skeleton: Pairs = ()
    sigmas: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        k, paired = len(self.keypoints), [i for pair in self.flip_pairs for i in pair]
        twice = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1}) if k <= 1000 else []
        problem = (
            f"{k} joints, expected 1 to 1000"
            if not 0 < k <= 1000
            else "a joint without a printable name of at most 100 characters"
            if not all(name.isprintable() and 0 < len(name) <= 100 for name in self.keypoints)
            else f"joints of the same name: {', '.join(twice)[:200]}"
            if twice
            else f"{len(self.sigmas)} sigmas for {k} joints; give one for each, or leave sigmas out"
            if len(self.sigmas) not in (0, k)
            else "sigmas that are not above 0; leave them out where nobody chose any"
            if not all(s > 0 for s in self.sigmas)
            else "pairs with a joint that there is not"
            if not all(0 <= i < k for pair in (*self.flip_pairs, *self.skeleton) for i in pair)
            else "a joint in two flip pairs, or paired with itself"
            if len(paired) != len(set(paired))
            else ""
        )
        if problem:
            raise ConfigError(f"the joints of the data set {self.name[:80]!r}: {problem}")

    def select(self, indices: Sequence[int]) -> Joints:
        """Some of the joints, in the given order.

        Raises:
            ConfigError: a joint is kept whose partner in the mirror image is not, so that no flip test is possible.
        """
        at = {old: new for new, old in enumerate(indices)}
        if len(at) != len(indices) or not all(0 <= i < len(self.keypoints) for i in indices):
            raise ConfigError(f"the output joints {list(indices)[:20]} are not among {len(self.keypoints)}, each once")
        for pair in self.flip_pairs:
            if len({i in at for i in pair}) == 2:
                raise ConfigError(
                    f"{' and '.join(self.keypoints[i] for i in pair)} swap in a mirror image, and only one of them is "
                    "put out: keep both or neither"
                )

        def kept(pairs: Pairs) -> Pairs:
            return tuple((at[a], at[b]) for a, b in pairs if a in at and b in at)

        some = replace(
            self,
            notes=(),
            keypoints=tuple(self.keypoints[i] for i in indices),
            flip_pairs=kept(self.flip_pairs),
            skeleton=kept(self.skeleton),
            sigmas=tuple(self.sigmas[i] for i in indices) if self.sigmas else (),
        )
        return some.known()

    def known(self, fill_in: bool = False) -> Joints:
        """The same, under the name of the data set of posert with these joints; it may fill in what is missing."""
        for name in datasets():
            own = dataset(name)
            if own.keypoints != self.keypoints:
                continue
            if self.flip_pairs and set(map(frozenset, self.flip_pairs)) != set(map(frozenset, own.flip_pairs)):
                continue
            parts: dict[str, Any] = {"flip_pairs": own.flip_pairs, "skeleton": own.skeleton, "sigmas": own.sigmas}
            missing = {part: v for part, v in parts.items() if fill_in and v and not getattr(self, part)}
            note = (f"{', '.join(missing)}: of {name}, which has the same joints",) if missing else ()
            return replace(self, name=name, notes=(*self.notes, *note), **missing)
        if self.name in datasets():  # copied from its config, and not renamed
            other = f"{self.name}-{len(self.keypoints)}"
            note = (f"joints: called {other!r}; the file calls them {self.name!r}, which has other joints",)
            return replace(self, name=other, notes=(*self.notes, *note))
        return self


def of_table(name: str) -> Joints:
    """The joints of one of MMPose's own data set files.

    Raises:
        KeyError: there is no such file.
    """
    found = mmpose_data.dataset_file(name)
    if found is None:
        raise KeyError(name)
    return Joints(
        found["dataset_name"],
        tuple(found["keypoints"]),
        tuple((a, b) for a, b in found["flip_pairs"]),
        tuple((a, b) for a, b in found["skeleton"]),
        tuple(found["sigmas"]),
    )


def of_metainfo(info: Field) -> Joints:
    """The joints of MMPose's `dataset_info` or `metainfo` (0.x and 1.x).

    Raises:
        ConfigError: it is incomplete, or a swap is not mutual.
    """
    table = info["keypoint_info"]
    count = len(table.mapping())
    if set(table.mapping()) != set(range(count)):
        raise table.error(f"the keys 0 to {count - 1}")
    points = [Field(table.mapping()[i], f"{table.path}[{i}]", table.label) for i in range(count)]
    names = [point["name"].text() for point in points]
    index = {name: i for i, name in enumerate(names)}
    pairs = []
    for i, point in enumerate(points):
        swap = point["swap"].text("")
        if not swap or swap == names[i]:
            continue
        if swap not in index or points[index[swap]]["swap"].text("") != names[i]:
            raise ConfigError(
                f"{info.label}: {point.path}.swap says that {names[i]!r} swaps with {swap!r}, "
                f"which {'does not say so too' if swap in index else 'is no joint'}"
            )
        if i < index[swap]:
            pairs.append((i, index[swap]))
    return Joints(
        info["dataset_name"].text("unnamed"),
        tuple(names),
        tuple(pairs),
        tuple(_link(limb, index) for limb in _values(info["skeleton_info"])),
        tuple(sigma.number() for sigma in info["sigmas"].items()),
    )


def _values(field: Field) -> list[Field]:
    """The values of a mapping, or the elements of a list."""
    if isinstance(field.value, dict):
        return [Field(v, f"{field.path}[{key}]", field.label) for key, v in field.value.items()]
    return field.items()


def _link(limb: Field, index: dict[str, int]) -> tuple[int, int]:
    ends = [end.text() for end in limb["link"].items()]
    if len(ends) != 2 or not all(end in index for end in ends):
        raise limb["link"].error("the names of two joints")
    return index[ends[0]], index[ends[1]]
