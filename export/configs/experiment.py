"""Experiment files of the HRNet repository and of Microsoft's simple-baselines repository.

They look alike and have different defaults. `MODEL.EXTRA.HEATMAP_SIZE` is in Microsoft's only, `MODEL.HEATMAP_SIZE` in
the HRNet repository's only.
"""

from __future__ import annotations

from typing import Any

from ...runtime.datasets import dataset
from ...runtime.errors import ConfigError
from .description import Description
from .fields import Field
from .joints import Joints

HRNET = "HRNet repository experiment file"
SIMPLE = "simple-baselines repository experiment file"
# In the code of both repositories.
_MEAN, _STD, _PADDING = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1.25
_DATASETS = ("coco", "mpii")


def is_experiment(values: Any) -> bool:
    """Whether a YAML document is an experiment file."""
    return isinstance(values, dict) and isinstance(values.get("MODEL"), dict)


def describe(values: Any, label: str) -> Description:
    """What an experiment file says.

    Args:
        values: the YAML document.
        label: the file, for messages.

    Raises:
        ConfigError: it is of a kind that posert does not run, or a value is unusable.
    """
    return _Reader(Field(values, "", label)).describe()


class _Reader:
    def __init__(self, top: Field) -> None:
        self.top, self.model = top, top["MODEL"]
        self.simple = not self.model["HEATMAP_SIZE"] and bool(self.model["EXTRA"]["HEATMAP_SIZE"])
        self.source = SIMPLE if self.simple else HRNET
        self.notes: list[str] = []

    def describe(self) -> Description:
        name = self._stated(self.model["NAME"], "pose_resnet" if self.simple else "pose_hrnet")
        if name not in ("pose_hrnet", "pose_resnet"):
            raise ConfigError(
                f"{self.top.label}: MODEL.NAME is {name!r:.80}, expected pose_hrnet or pose_resnet. For another "
                "network give an ONNX file or a module, with --contract contract.yaml"
            )
        extra = self.model["EXTRA"]
        target = extra["TARGET_TYPE"] if self.simple else self.model["TARGET_TYPE"]
        if self._stated(target, "gaussian") != "gaussian":
            raise target.error("gaussian; the repository decodes heatmaps only")
        width, height = self._size(self.model["IMAGE_SIZE"], (256, 256))
        map_width, map_height = self._size(
            extra["HEATMAP_SIZE"] if self.simple else self.model["HEATMAP_SIZE"], (64, 64)
        )
        test = self.top["TEST"]
        fields: dict[str, Any] = {
            "width": width,
            "height": height,
            "heatmap_width": map_width,
            "heatmap_height": map_height,
            "mean": _MEAN,
            "std": _STD,
            "padding": _PADDING,
            "decode": "default" if self._flag(test["POST_PROCESS"], self.simple) else "none",
            "flip_shift": self._flag(test["SHIFT_HEATMAP"], self.simple),
            "model_color": self._color(),
        }
        count = self.model["NUM_JOINTS"].whole(16 if self.simple else 17)
        if not self.model["NUM_JOINTS"]:
            self._note(self.model["NUM_JOINTS"], count)
        flip_test = self._flag(test["FLIP_TEST"], False)
        return Description(
            source=self.source,
            kind="heatmap",
            fields=fields,
            joints=self._joints(count),
            network=dict(self.model.mapping()),
            channels=count,
            flip_test=flip_test,
            notes=tuple(self.notes),
        )

    def _note(self, field: Field, value: object) -> None:
        self.notes.append(f"not stated: {field.path}; taken as {value}, the default of this repository")

    def _stated(self, field: Field, default: str) -> str:
        if not field:
            self._note(field, default)
        return field.text(default)

    def _flag(self, field: Field, default: bool) -> bool:
        if not field:
            self._note(field, default)
        return field.flag(default)

    def _size(self, field: Field, default: tuple[int, int]) -> tuple[int, int]:
        if not field:
            self._note(field, default)
            return default
        if self.simple and isinstance(field.value, int):  # a square
            return Field([field.value] * 2, field.path, field.label).size()
        return field.size()

    def _color(self) -> str:
        color = self.top["DATASET"]["COLOR_RGB"]
        if self.simple:
            if color:
                raise color.error("none: simple-baselines reads pictures as BGR, and refuses this key")
            self.notes.append("BGR: simple-baselines reads pictures so")
            return "BGR"
        return "RGB" if self._flag(color, False) else "BGR"

    def _joints(self, count: int) -> Joints | None:
        field = self.top["DATASET"]["DATASET"]
        name = self._stated(field, "mpii").lower()
        if name not in _DATASETS:
            self.notes.append(
                f"not stated: the joints; DATASET.DATASET {field.text('')!r:.80} is a class of the repository. Give "
                "them with --dataset-file"
            )
            return None
        own = dataset(name)
        if count != len(own.keypoints):
            raise self.model["NUM_JOINTS"].error(f"{len(own.keypoints)}, the joints of {name}")
        return Joints(own.name, own.keypoints, own.flip_pairs, own.skeleton, own.sigmas)
