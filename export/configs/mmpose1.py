"""MMPose 1.x: from a config's `model` and data loaders to a description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...runtime.errors import ConfigError
from .description import Description
from .evaluate import Config
from .fields import Field
from .joints import Joints
from .mmpose_joints import Finder
from .refusals import refuse

SOURCE = "MMPose 1.x config"
_DEFAULT = "MMPose 1.x's default"
_RADIUS = 0.0546875  # UDPHeatmap's, which posert's rule has as a constant

# Heads whose output is neither maps nor two vectors, whatever their decoder says.
_OTHER_HEADS = {
    "RegressionHead", "RLEHead", "DSNTHead", "IntegralRegressionHead", "TemporalRegressionHead", "VisPredictHead",
    "TrajectoryRegressionHead", "MotionRegressionHead", "InternetHead", "RTMOHead", "DEKRHead", "EDPoseHead", "CIDHead",
    "AssociativeEmbeddingHead", "YOLOXPoseHead",
}  # fmt: skip
# Transforms of a test pipeline that leave the picture as it is.
_HARMLESS = {"LoadImage", "LoadImageFromFile", "PackPoseInputs", "GenerateTarget", "KeypointConverter"}


def describe(
    config: Config, root: Path | None = None, joints: Joints | None = None, source: str = SOURCE
) -> Description:
    """What an MMPose 1.x config says.

    Args:
        config: the evaluated config.
        root: a folder of configs in which data set files are looked for.
        joints: of the checkpoint, which win over those of the config.
        source: what to call it.

    Raises:
        ConfigError: the model is of a kind that posert does not run, or a needed value is missing or unusable.
    """
    return _Reader(config, root, source).describe(joints)


class _Reader:
    def __init__(self, config: Config, root: Path | None, source: str) -> None:
        self.top, self.source = config.top, source
        self.model, self.finder = self.top["model"], Finder(Path(config.label).parent, root)
        self.notes = list(config.notes)

    def describe(self, joints: Joints | None) -> Description:
        self._check_kind()
        codec = self._codec()
        fields, kind = self._decoding(codec)
        fields |= self._input(codec)
        flip_test = self._stated(self.model["test_cfg"]["flip_test"], False)
        if kind == "heatmap":
            shift = self.model["test_cfg"]["shift_heatmap"]
            fields["flip_shift"] = self._stated(shift, False) if flip_test else shift.flag(False)
            self._check_flip_mode(fields["decode"], flip_test)
        else:  # shift_coords, in some configs, is read by no SimCC head
            fields["flip_shift"] = False
        if joints is None:
            joints = self._joints()
        output = tuple(i.whole() for i in self.model["test_cfg"]["output_keypoint_indices"].items())
        about = joints.notes if joints and not output else ()  # of a choice of them other things hold
        return Description(
            source=self.source,
            kind=kind,
            fields=fields,
            joints=joints,
            network=dict(self.model.mapping()),
            channels=self._channels(),
            output_keypoints=output,
            flip_test=flip_test,
            notes=(*self.notes, *self.finder.notes, *about),
        )

    def _stated(self, field: Field, default: bool) -> bool:
        if not field:
            self.notes.append(f"not stated: {field.path}; taken as {default}, {_DEFAULT}")
        return field.flag(default)

    def _check_kind(self) -> None:
        name = self.model.type()
        if name == "DWPoseDistiller":
            student = self.model["student_cfg"].text("CONFIG.py")
            second = " --two_dis" if self.model["two_dis"].flag(False) else ""
            raise ConfigError(
                f"{self.top.label}: model.type DWPoseDistiller trains one network by another. The result is the "
                f"network of {student:.200}: take its weights out with MMPose's tools/misc/pth_transfer.py{second}, or "
                f"give DWPose's own ONNX: posert build --network dw-ll_ucoco_384.onnx --config {student:.200}"
            )
        if name != "TopdownPoseEstimator":
            refuse(self.top.label, "model.type", name)
        head = self.model["head"].type()
        if not head or head in _OTHER_HEADS:
            refuse(self.top.label, "model.head.type", head)

    def _codec(self) -> Field:
        """The last of the decoders: networks of several stages have one for each output of each stage."""
        codec = self.model["head"]["decoder"]
        while isinstance(codec.value, list | tuple):
            codec = codec[-1]
        return codec

    def _decoding(self, codec: Field) -> tuple[dict[str, Any], str]:
        name = codec.type()
        if name == "SimCCLabel":
            return self._simcc(codec), "simcc"
        fields: dict[str, Any] = {}
        if name == "MSRAHeatmap":
            fields["decode"] = "unbiased" if codec["unbiased"].flag(False) else "msra"
            fields["kernel"] = codec["blur_kernel_size"].whole(11)
        elif name == "UDPHeatmap":
            combined = codec["heatmap_type"].text("gaussian") == "combined"
            if codec["heatmap_type"].text("gaussian") not in ("gaussian", "combined"):
                raise codec["heatmap_type"].error("gaussian or combined")
            if combined and codec["radius_factor"].number(_RADIUS) != _RADIUS:
                raise codec["radius_factor"].error(f"{_RADIUS}, which the decode rule has as a constant")
            fields["decode"] = "udp_heatmap_combined" if combined else "udp_heatmap"
            fields["kernel"] = codec["blur_kernel_size"].whole(11)
        elif name == "MegviiHeatmap":
            fields |= {"decode": "megvii", "kernel": codec["kernel_size"].whole()}
        else:
            refuse(self.top.label, codec["type"].path, name)
        fields["heatmap_width"], fields["heatmap_height"] = codec["heatmap_size"].size()
        return fields, "heatmap"

    def _simcc(self, codec: Field) -> dict[str, Any]:
        width, height = codec["input_size"].size()
        ratio = codec["simcc_split_ratio"].number(2.0)
        head = self.model["head"]
        if head["simcc_split_ratio"].number(2.0) != ratio:
            raise head["simcc_split_ratio"].error(f"{ratio}, as the codec has it")
        if head["input_size"] and head["input_size"].size() != (width, height):
            raise head["input_size"].error(f"{width}, {height}, as the codec has it")
        fields = {
            "decode": "simcc",
            "heatmap_width": int(width * ratio),
            "heatmap_height": int(height * ratio),
        }
        if codec["decode_visibility"].flag(False):
            self.notes.append("decode_visibility: posert gives the score of a joint, not this visibility")
        if codec["use_dark"].flag(False):
            sigma = codec["sigma"]
            pair = [s.number() for s in sigma.items()] or [sigma.number(6.0)] * 2
            kernels = [int((s * 20 - 7) // 3) for s in pair]
            kernels = [k - (k % 2 == 0) for k in kernels]
            fields |= {"decode": "simcc_dark", "kernel": kernels[0], "kernel_y": kernels[1]}
        return fields

    def _input(self, codec: Field) -> dict[str, Any]:
        pipeline = self._pipeline()
        affine, box = pipeline.get("TopdownAffine"), pipeline.get("GetBBoxCenterScale")
        width, height = (affine["input_size"] if affine else codec["input_size"]).size()
        if codec["input_size"].size() != (width, height):
            raise codec["input_size"].error(f"{width}, {height}, as TopdownAffine of the test data has it")
        if not pipeline:
            self.notes.append(
                "not stated: the pipeline of the test data; the box is taken as enlarged by 1.25 and cut without UDP, "
                f"{_DEFAULT}s"
            )
        elif not box or not box["padding"]:
            self.notes.append(f"not stated: padding of the box; taken as 1.25, {_DEFAULT}")
        for name in pipeline.keys() - _HARMLESS - {"TopdownAffine", "GetBBoxCenterScale"}:
            self.notes.append(f"the test pipeline also has {name}, which no contract can express")
        udp = affine["use_udp"].flag(False) if affine else False
        map_udp = codec.type() == "UDPHeatmap"
        return {
            "width": width,
            "height": height,
            "padding": box["padding"].number(1.25) if box else 1.25,
            "udp": udp,
            "heatmap_udp": None if udp == map_udp else map_udp,
            **self._normalisation(),
        }

    def _pipeline(self) -> dict[str, Field]:
        """The transforms of the test data, by class name; empty if the config has none."""
        for loader in ("test_dataloader", "val_dataloader"):
            left = [self.top[loader]["dataset"]] if self.top[loader] else []
            while left:
                dataset = left.pop(0)
                found = {step.type(): step for step in dataset["pipeline"].items()} if dataset else {}
                if "TopdownAffine" in found:
                    if loader == "val_dataloader":
                        self.notes.append("not stated: test_dataloader; taken from val_dataloader")
                    return found
                if dataset:
                    left += [*dataset["datasets"].items(), *([dataset["dataset"]] if dataset["dataset"] else [])]
        return {}

    def _normalisation(self) -> dict[str, Any]:
        pre = self.model["data_preprocessor"] or self.top["data_preprocessor"]
        fields: dict[str, Any] = {}
        if pre["bgr_to_rgb"].flag(False) and pre["rgb_to_bgr"].flag(False):
            raise pre["rgb_to_bgr"].error("one of bgr_to_rgb and rgb_to_bgr")
        # Both swap the channels of a picture that was read as BGR.
        swapped = pre["bgr_to_rgb"].flag(False) or pre["rgb_to_bgr"].flag(False)
        fields["model_color"] = "RGB" if swapped else "BGR"
        if not pre["bgr_to_rgb"] and not pre["rgb_to_bgr"]:
            self.notes.append(f"not stated: model.data_preprocessor.bgr_to_rgb; taken as False (BGR), {_DEFAULT}")
        if pre["mean"]:
            fields["mean"] = tuple(map(unit, pre["mean"].triple()))
            fields["std"] = tuple(map(unit, pre["std"].triple()))
        else:
            self.notes.append(f"not stated: model.data_preprocessor.mean; pixels are taken as 0 to 255, {_DEFAULT}")
            fields |= {"mean": (0.0, 0.0, 0.0), "std": (unit(1.0),) * 3}
        return fields

    def _check_flip_mode(self, decode: str, flip_test: bool) -> None:
        mode = self.model["test_cfg"]["flip_mode"]
        expected = "udp_combined" if decode == "udp_heatmap_combined" else "heatmap"
        if flip_test and mode.text("heatmap") != expected:
            raise mode.error(f"{expected} for this codec")

    def _channels(self) -> int | None:
        channels = self.model["head"]["out_channels"]
        return channels.whole() if channels else None

    def _joints(self) -> Joints | None:
        """Of the training data, which the output channels follow; of the test data where there is none."""
        for loader in ("train_dataloader", "test_dataloader", "val_dataloader"):
            found = self.finder.joints(self.top[loader]["dataset"], 1, "metainfo") if self.top[loader] else None
            if found is not None:
                if loader != "train_dataloader":
                    self.notes.append(f"not stated: the joints of train_dataloader; taken from {loader}")
                return found
        self.notes.append("not stated: the joints; give them with --dataset-file")
        return None


def unit(value: float) -> float:
    """A number for pixels from 0 to 255 as one for 0 to 1: 123.675 as 0.485, not as 0.48500000000000004."""
    rounded = round(value / 255, 6)
    return rounded if abs(rounded * 255 - value) < 1e-9 else value / 255
