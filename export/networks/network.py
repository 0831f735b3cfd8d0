"""The network of a config's `model` section, whichever family and code base it is of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ...runtime.errors import CatalogError
from . import resnets
from .built import BuiltNetwork
from .heads import heatmap_head, multi_stage_head, simple_head
from .hrnets import hrnet, pose_hrnet
from .multi_stage import hourglass, mspn
from .resnets import pose_resnet, resnet
from .section import Section

SOURCES = ("mmpose-1", "mmpose-0", "experiment")
_DETECTOR = {"mmpose-1": "TopdownPoseEstimator", "mmpose-0": "TopDown"}
_HEAD = {"mmpose-1": "head", "mmpose-0": "keypoint_head"}
# Names of the heads in MMPose 1.x and 0.x.
_MAPS = ("HeatmapHead", "TopdownHeatmapSimpleHead")
_STAGES = ("CPMHead", "TopdownHeatmapMultiStageHead")
_UNITS = ("MSPNHead", "TopdownHeatmapMSMUHead")
_HEADS = {**dict.fromkeys((*resnets.TYPES, "HRNet"), _MAPS), "HourglassNet": _STAGES, "MSPN": _UNITS}

# Libraries whose backbones of these types are MMPose's: same keys, same result.
_RESNETS = ("ResNet", "ResNetV1d", "SEResNet", "ResNeXt", "ResNeSt")
_LIBRARIES = {"mmpose": tuple(_HEADS), "mmpretrain": _RESNETS, "mmcls": _RESNETS, "mmdet": ("ResNet",)}


def network_of(model: Mapping[str, Any], source: str) -> BuiltNetwork:
    """The network that a config describes.

    Args:
        model: the `model` dict of an MMPose config, or the `MODEL` section of an experiment file.
        source: "mmpose-1" (1.x), "mmpose-0" (0.x) or "experiment" (HRNet's and Microsoft's repositories).

    Raises:
        CatalogError: a type, key or value is not known; the message names it and says how such a network can come.
    """
    if source not in SOURCES:
        raise CatalogError(f"unknown source {source!r} of a config: expected {', '.join(SOURCES)}")
    return _experiment(model) if source == "experiment" else _mmpose(model, source)


def _mmpose(model: Mapping[str, Any], source: str) -> BuiltNetwork:
    whole = Section(model, "model")
    if _type(whole) != _DETECTOR[source]:
        raise whole.refusal(f"type={model['type']!r:.80}, only {_DETECTOR[source]} is known")
    whole.ignore("data_preprocessor", "loss_pose", "metainfo")
    backbone, head = whole.section("backbone"), whole.section(_HEAD[source])
    kind, head_kind = _type(backbone), _type(head)
    library = str(backbone.values["type"]).rpartition(".")[0] or backbone.values.get("_scope_", "mmpose")
    if kind not in _HEADS:
        raise backbone.refusal(f"type={backbone.values['type']!r:.80}, only {', '.join(_HEADS)} are known")
    if kind not in _LIBRARIES.get(library, ()):
        raise backbone.refusal(f"{library}'s {kind} is not known, only MMPose's")
    if head_kind != _HEADS[kind][SOURCES.index(source)]:
        raise head.refusal(
            f"type={head.values['type']!r:.80}, behind {kind} only {_HEADS[kind][SOURCES.index(source)]} is known"
        )
    neck = None
    if whole.raw("neck", None) is not None:
        neck = whole.section("neck")
        if _type(neck) != "FeatureMapProcessor" or _HEADS[kind] is not _MAPS or source == "mmpose-0":
            raise neck.refusal(f"type={neck.values['type']!r:.80} is not known behind {kind}")
    whole.close()
    if kind == "HourglassNet":
        return hourglass(backbone, partial(multi_stage_head, head, source))
    if kind == "MSPN":
        return mspn(backbone, head)
    head_of = partial(heatmap_head, head, neck) if source == "mmpose-1" else partial(simple_head, head, kind == "HRNet")
    if kind == "HRNet":
        return hrnet(backbone, head_of)
    return resnet(backbone, kind, head_of)


def _experiment(model: Mapping[str, Any]) -> BuiltNetwork:
    whole = Section(model, "MODEL")
    whole.ignore("HEATMAP_SIZE", "IMAGE_SIZE", "INIT_WEIGHTS", "PRETRAINED", "SIGMA", "TARGET_TYPE", "TAG_PER_JOINT")
    name = whole.one_of("NAME", ("pose_hrnet", "pose_resnet"))
    built = pose_hrnet(whole) if name == "pose_hrnet" else pose_resnet(whole)
    whole.close()
    return built


def _type(section: Section) -> str:
    """A section's type without the library that its name begins with; messages then state it."""
    given = section.raw("type")
    section.kind = given.rpartition(".")[2] if isinstance(given, str) else repr(given)
    return section.kind
