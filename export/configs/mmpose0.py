"""MMPose 0.x, from v0.6 on: from a config's `model` and `data` to a description."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .description import Description
from .evaluate import Config
from .fields import Field
from .joints import Joints, of_metainfo
from .mmpose_joints import Finder
from .refusals import refuse

SOURCE = "MMPose 0.x config"
_DEFAULT = "MMPose 0.x's default"
_RADIUS = 0.0546875
# Before v0.28 the padding was in the code of the data set classes; 1.25 in all others.
_PADDINGS = {
    "AnimalATRWDataset": 1.0,
    "AnimalFlyDataset": 0.8,
    "AnimalLocustDataset": 0.8,
    "AnimalZebraDataset": 0.8,
    "FreiHandDataset": 0.8,
    "InterHand2DDataset": 1.5,
    "PanopticDataset": 1.76,
}
_HARMLESS = {"LoadImageFromFile", "ToTensor", "Collect", "TopDownGenerateTarget"}
_READ = {"TopDownAffine", "TopDownGetBboxCenterScale", "NormalizeTensor"}


def describe(config: Config, root: Path | None = None, source: str = SOURCE) -> Description:
    """What an MMPose 0.x config says.

    Raises:
        ConfigError: the model is of a kind that posert does not run, or a needed value is missing or unusable.
    """
    return _Reader(config, root, source).describe()


class _Reader:
    def __init__(self, config: Config, root: Path | None, source: str) -> None:
        self.top, self.source = config.top, source
        self.model, self.finder = self.top["model"], Finder(Path(config.label).parent, root)
        self.test = self._test_data()
        self.notes = list(config.notes)

    def describe(self) -> Description:
        if self.model.type() != "TopDown":
            refuse(self.top.label, "model.type", self.model.type())
        head = self.model["keypoint_head"].type()
        if not re.match(r"Top[Dd]own(?!.*Regression)|.*Heatmap", head):
            refuse(self.top.label, "model.keypoint_head.type", head)
        data = self.test["data_cfg"] if self.test["data_cfg"] else self.top["data_cfg"]
        fields = self._decoding() | self._input()
        fields["width"], fields["height"] = data["image_size"].size()
        fields["heatmap_width"], fields["heatmap_height"] = data["heatmap_size"].size()
        flip_test = self._flag("flip_test", True)
        fields["flip_shift"] = self._flag("shift_heatmap", False)
        udp = self.model["test_cfg"]["use_udp"].flag(False)
        fields["heatmap_udp"] = None if udp == fields["udp"] else udp
        joints = self._joints()
        if joints is not None:
            self._note_unused_channels(data, joints)
        channels = self.model["keypoint_head"]["out_channels"]
        return Description(
            source=self.source,
            kind="heatmap",
            fields=fields,
            joints=joints,
            network=dict(self.model.mapping()),
            channels=channels.whole() if channels else None,
            flip_test=flip_test,
            notes=(*self.notes, *self.finder.notes, *(joints.notes if joints else ())),
        )

    def _test_data(self) -> Field:
        data = self.top["data"]
        for part in ("test", "val", "train"):
            found = data[part]
            while found and not found["pipeline"] and (found["dataset"] or found["datasets"].items()):
                found = found["dataset"] if found["dataset"] else found["datasets"][0]
            if found:
                return found
        return data["test"]

    def _flag(self, name: str, default: bool) -> bool:
        field = self.model["test_cfg"][name]
        if not field:
            self.notes.append(f"not stated: {field.path}; taken as {default}, {_DEFAULT}")
        return field.flag(default)

    def _decoding(self) -> dict[str, Any]:
        """As keypoints_from_heatmaps chooses, with the spellings before v0.11 (post_process a bool)."""
        test = self.model["test_cfg"]
        stated = bool(test) and "post_process" in test.mapping()  # None is a statement here
        post: Any = test["post_process"].value if stated else "default"
        if not stated:
            self.notes.append(f"not stated: {test.path}.post_process; taken as 'default', {_DEFAULT}")
        if post not in (None, True, False, "default", "unbiased", "megvii"):
            raise test["post_process"].error("default, unbiased, megvii or None")
        post = "none" if not post else "default" if post is True else post
        if test["unbiased_decoding"].flag(False):
            if post not in ("default", "unbiased"):
                raise test["unbiased_decoding"].error(f"False beside post_process {post}")
            post = "unbiased"
        target = test["target_type"].text("GaussianHeatmap").lower()
        if test["use_udp"].flag(False):
            if post == "megvii" or target not in ("gaussianheatmap", "combinedtarget"):
                raise test["target_type" if post != "megvii" else "post_process"].error("one that goes with use_udp")
            post = "udp_combined" if target == "combinedtarget" else "udp"
            if post == "udp_combined" and test["valid_radius_factor"].number(_RADIUS) != _RADIUS:
                raise test["valid_radius_factor"].error(f"{_RADIUS}, which the decode rule has as a constant")
        elif target == "combinedtarget":
            raise test["use_udp"].error("True for a CombinedTarget")
        if post in ("unbiased", "udp", "udp_combined", "megvii") and not test["modulate_kernel"]:
            self.notes.append(f"not stated: {test.path}.modulate_kernel; taken as 11, {_DEFAULT}")
        return {"decode": post, "kernel": test["modulate_kernel"].whole(11)}

    def _input(self) -> dict[str, Any]:
        pipeline = {step.type(): step for step in self.test["pipeline"].items()}
        box, normal = pipeline.get("TopDownGetBboxCenterScale"), pipeline.get("NormalizeTensor")
        for name in pipeline.keys() - _HARMLESS - _READ:
            self.notes.append(f"the test pipeline also has {name}, which no contract can express")
        affine = pipeline.get("TopDownAffine")
        if affine is None:
            self.notes.append(
                f"not stated: TopDownAffine in the pipeline of the test data; taken as without UDP, {_DEFAULT}"
            )
        if box is not None:
            padding = box["padding"].number(1.25)
            if not box["padding"]:
                self.notes.append(f"not stated: padding of the box; taken as 1.25, {_DEFAULT}")
        else:
            padding = _PADDINGS.get(self.test.type().removeprefix("TopDown"), 1.25)  # the prefix until v0.8
            self.notes.append(
                f"not stated: padding of the box; taken as {padding}, which {self.test.type() or 'the data set class'} "
                "has in its code before v0.28"
            )
        fields: dict[str, Any] = {"padding": padding, "udp": affine["use_udp"].flag(False) if affine else False}
        order = pipeline["LoadImageFromFile"]["channel_order"].text("rgb") if "LoadImageFromFile" in pipeline else "rgb"
        if order not in ("rgb", "bgr"):
            raise pipeline["LoadImageFromFile"]["channel_order"].error("rgb or bgr")
        if "LoadImageFromFile" not in pipeline or not pipeline["LoadImageFromFile"]["channel_order"]:
            self.notes.append(f"not stated: channel_order of LoadImageFromFile; taken as rgb, {_DEFAULT}")
        fields["model_color"] = order.upper()
        if normal is not None:
            fields |= {"mean": normal["mean"].triple(), "std": normal["std"].triple()}
        else:
            self.notes.append(
                "not stated: NormalizeTensor in the pipeline of the test data; pixels are taken as 0 to 1"
            )
            fields |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        return fields

    def _joints(self) -> Joints | None:
        for part in ("test", "val", "train"):
            found = self.finder.joints(self.top["data"][part], 0, "dataset_info")
            if found is not None:
                return found
        if self.top["dataset_info"]:
            return of_metainfo(self.top["dataset_info"]).known()
        self.notes.append("not stated: the joints; give them with --dataset-file")
        return None

    def _note_unused_channels(self, data: Field, joints: Joints) -> None:
        listed = [i.whole() for i in data["inference_channel"].items()]
        left_out = [name for i, name in enumerate(joints.keypoints) if listed and i not in listed]
        if left_out:
            # The library stores the list and never reads it for top-down models: all joints come out.
            self.notes.append(
                f"data_cfg.inference_channel leaves out {', '.join(left_out)[:200]}; MMPose 0.x gives them"
            )
