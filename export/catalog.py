"""The models that posert knows: weights, contract and reported accuracy.

catalog.json holds the published ones. An architecture may bring its own, entries of the same form, see
`posert.export.archs.Architecture`. Reading the catalog needs no torch; without it only catalog.json is listed.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..runtime.bundle.contract import Contract
from ..runtime.datasets import dataset as dataset_constants
from ..runtime.errors import CatalogError
from ..runtime.pose.heads import head
from ..runtime.registry import unknown_name

__all__ = ["Row", "failures", "find", "has_torch", "parse_imgsz", "row", "rows"]


_AS_IN_CONTRACT = ["width", "height", "mean", "std", "enlarge", "padding", "udp", "decode", "kernel", "flip_shift"]
_UNPUBLISHED: dict[str, Any] = {"url": None, "file": None, "metrics": {}}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model: a row of a published table, or of your own.

    Attributes:
        id: unique name, which `find` and `--arch` take too.
        arch: name in `posert.export.archs`.
        dataset: name in `posert.runtime.datasets`; gives the K joints.
        height, width: the crop, px.
        stride: px of the crop per cell of the heatmap; None: the architecture's.
        source, config, table: repository, configuration file and published table that the facts come from.
        layout: how the checkpoint spells its keys: "mmpose", "original" or "megvii".
        color: channel order of the training pictures, "RGB" or "BGR".
        mean, std: `(p / 255 - mean) / std`, in `color` order.
        target: how the training maps were drawn: `encoding`, and `sigma` (px of the heatmap) or `kernels`.
        decode, kernel, flip_shift, udp, enlarge, padding: as in `posert.runtime.bundle.contract.Contract`.
        flip_test: whether the published figures average the maps of the picture and of its mirror image.
        url: where the weights are, or None where they have no direct address.
        file: name that the publisher gives the weights, or None where none were published.
        params, macs, macs_test_path: parameters; multiply-adds at batch 1, of all heads and of the test output alone.
            None where nobody published them: `posert.export.graph.macs.counted` counts them.
        boxes: where the person boxes of the published figures come from.
        evaluation: settings of that evaluation.
        metrics: the published figures, as fractions; an entry with `metrics_unit: percent` gives them as published.
        by_layout: what differs in weights of another layout, which fit the same network; see `with_layout`.
        note: what else a user should know.
    """

    id: str
    arch: str
    dataset: str
    height: int
    width: int
    stride: int | None = None
    params: int | None = None
    macs: int | None = None
    macs_test_path: int | None = None
    source: str = ""
    config: str = ""
    table: str = ""
    layout: str = "original"
    color: str = "RGB"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    target: Mapping[str, Any] = field(default_factory=dict)
    decode: str = "default"
    kernel: int = 11
    flip_shift: bool = True
    url: str | None = None
    file: str | None = None
    boxes: str = ""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    by_layout: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""
    flip_test: bool = True
    udp: bool = False
    enlarge: tuple[float, float] = (1.0, 1.0)
    padding: float = 1.25

    @property
    def keypoints(self) -> int:
        """K, the number of joints."""
        return len(dataset_constants(self.dataset).keypoints)

    @property
    def channels(self) -> int:
        """Channels of the network's output: K, or as many as the decode rule reads. Needs torch as `contract` does."""
        contract = self.contract()
        return head(contract.decode).shapes(contract)[0][0]

    @property
    def sha256_prefix(self) -> str | None:
        """The first eight hex digits of the weights' sha256, where the file name states them (MMPose)."""
        found = re.search(r"-([0-9a-f]{8})_\d{8}\.pth$", self.file or "")
        return found.group(1) if found else None

    def with_layout(self, layout: str) -> Row:
        """The row for weights of this layout (`Checkpoint.layout`), which may differ from the row's own.

        The contract follows the checkpoint: a pose_resnet of MMPose was trained on RGB, one of the HRNet repository
        on BGR, and both have the same names and shapes. The published figures hold for the row's own weights only.
        """
        layout = layout.split("-")[0]
        if layout == self.layout:
            return self
        note = f"weights of the {layout} layout, not those of the published row {self.id}"
        return replace(self, layout=layout, note=note, **_UNPUBLISHED, **_tuples(self.by_layout.get(layout, {})))

    def contract(self) -> Contract:
        """What the network was trained to see and how its maps are read. Needs torch where `stride` is None.

        Raises:
            CatalogError: the architecture is unknown.
        """
        from .archs import architecture  # needs torch

        joints = dataset_constants(self.dataset)
        stride = self.stride or architecture(self.arch).stride
        return Contract(
            dataset=joints.name,
            **{name: getattr(joints, name) for name in ("keypoints", "flip_pairs", "skeleton", "sigmas")},
            heatmap_width=self.width // stride,
            heatmap_height=self.height // stride,
            model_color=self.color,
            **{name: getattr(self, name) for name in _AS_IN_CONTRACT},
        )


def rows() -> dict[str, Row]:
    """All rows by id, in the order of preference in which `find` looks."""
    return dict(_load()[0])


def row(id: str) -> Row:
    """The row with this id. Raises CatalogError for an unknown one, with the nearest and all known ids."""
    known = _load()[0]
    if id not in known:
        raise CatalogError(unknown_name("model", id, known) + failures())
    return known[id]


def find(arch: str, dataset: str | None = None, imgsz: str | None = None) -> Row:
    """The first row of the catalog that fits an architecture, and if wanted a data set and an input size.

    COCO stands before other data sets, the smaller input before the larger, MMPose's weights before the original
    repository's. So `find("hrnet_w32")` is MMPose's COCO 256x192 row.

    Args:
        arch: an architecture ("hrnet_w32"), another name of one ("pose_hrnet_w32") or the id of a row.
        dataset: name of a data set.
        imgsz: the crop as "HxW", for instance "256x192".

    Raises:
        CatalogError: `arch` fits nothing or several, or no row has this data set and size; candidates are listed.
    """
    known, aliases, variants, _ = _load()
    size = None if imgsz is None else parse_imgsz(imgsz)
    name = aliases.get(arch, arch)
    base = variants.get(name, name)
    pool = [known[name]] if name in known else [r for r in known.values() if r.arch == base]
    if not pool:
        names = {r.arch for r in known.values()} | set(variants)
        near = sorted(n for n in names if n.startswith(name))
        if near:
            raise CatalogError(f"architecture {arch!r} could be {' or '.join(near)}: say which")
        raise CatalogError(unknown_name("architecture", arch, names) + failures())
    fits = [r for r in pool if dataset in (None, r.dataset) and size in (None, (r.height, r.width))]
    if not fits:
        wanted = " ".join(filter(None, (dataset, imgsz)))
        known_ones = "".join(f"\n  {r.arch} {r.dataset} {r.height}x{r.width}  ({r.id})" for r in pool)
        raise CatalogError(f"the catalog has no {arch} for {wanted}. It has:{known_ones}")
    found = fits[0]
    if name not in variants:
        return found
    id = f"{name}_{found.dataset}_{found.height}x{found.width}"
    note = f"no published weights; the contract is that of {found.id}"
    return replace(found, id=id, arch=name, note=note, params=None, macs=None, macs_test_path=None, **_UNPUBLISHED)


def has_torch() -> bool:
    """Whether torch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


def parse_imgsz(text: str) -> tuple[int, int]:
    """Height and width, px, from "256x192"; CatalogError for any other text."""
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text.strip().lower())
    if not found:
        raise CatalogError(f"the input size {text!r} is not HEIGHTxWIDTH; write for instance 256x192")
    return int(found.group(1)), int(found.group(2))


def failures() -> str:
    """The packages and rows that are missing because they cannot be used, for messages."""
    if not has_torch():
        return ""
    from .archs import plugin_failures

    skipped = {**plugin_failures(), **_load()[3]}
    return "".join(f"\n{where} was skipped: {why}" for where, why in skipped.items())


@cache
def _load() -> tuple[dict[str, Row], dict[str, str], dict[str, str], dict[str, str]]:
    """Rows by id, aliases, variants, and why rows of architectures cannot be used: catalog.json first."""
    content = json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))
    known = {id: _row(id, _merged(entry, content["bases"])) for id, entry in content["rows"].items()}
    unusable: dict[str, str] = {}
    if has_torch():
        from .archs import architectures

        for own in architectures().values():
            for id, entry in own.rows.items():
                if id in known:
                    owners = f"{known[id].arch} and of {own.name}"
                    raise CatalogError(f"two models are called {id!r}: of {owners}; rename one")
                try:
                    known[id] = _row(id, {**entry, "arch": own.name})
                except CatalogError as error:  # of a package of somebody else: it stops no other model
                    unusable[f"{id} of the architecture {own.name}"] = str(error)
    return known, content["aliases"], content["variants"], unusable


def _merged(entry: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An entry with what its bases state and it does not; of two bases the first counts."""
    values: dict[str, Any] = {}
    for name in reversed(entry.get("bases", ())):
        values |= _merged(bases[name], bases)
    return values | {key: value for key, value in entry.items() if key not in ("bases", "comment")}


def _row(id: str, entry: Mapping[str, Any]) -> Row:
    values = dict(entry)
    try:
        height, width = values.pop("input")
        dataset_constants(values["dataset"])
        whole = {"fraction": 1, "percent": 100}[values.pop("metrics_unit", "fraction")]
        # Rounded because 97.1 / 100 is 0.9709999999999999.
        values["metrics"] = {name: round(value / whole, 6) for name, value in values.get("metrics", {}).items()}
        if values.get("url"):
            values.setdefault("file", values["url"].rsplit("/", 1)[-1])
        values.setdefault("macs_test_path", values.get("macs"))
        return Row(id=id, height=height, width=width, **_tuples(values))
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogError(
            f"the catalog row {id} cannot be used ({type(error).__name__}: {error}); it needs dataset and input "
            "[height, width], and may have the other fields of posert.export.catalog.Row"
        ) from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where the dataclass has tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
