"""The joints that the data sets of an MMPose config name."""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import ConfigError
from . import mmpose_data
from .evaluate import read_config
from .fields import Field
from .files import is_regular
from .joints import Joints, of_metainfo, of_table
from .values import Unknown

_WRAPPERS = ("dataset", "datasets")  # RepeatDataset and ConcatDataset hold the data set one level down


class Finder:
    """Where data set files are looked for.

    Attributes:
        folder: of the config.
        root: a folder of configs that the user gave.
        notes: what was taken from elsewhere than the file names.
    """

    def __init__(self, folder: Path, root: Path | None) -> None:
        self.folder, self.root = folder, root
        self.notes: list[str] = []

    def joints(self, dataset: Field, version: int, key: str) -> Joints | None:
        """The joints of a data set; None if it names none.

        Args:
            dataset: its mapping in the config.
            version: of MMPose, 0 or 1.
            key: what the joints are called there: "metainfo" (1.x) or "dataset_info" (0.x).

        Raises:
            ConfigError: what it says cannot be used.
        """
        if not isinstance(dataset.value, dict):
            return None
        info = dataset[key]
        if isinstance(info.value, Unknown):
            raise info.error("the joints")
        if isinstance(info.value, dict) and "keypoint_info" in info.value:
            return of_metainfo(info).known()
        if isinstance(info.value, dict) and "from_file" in info.value:
            return self._from_file(info["from_file"])
        if isinstance(info.value, str):
            return self._from_file(info)
        name = mmpose_data.of_class(dataset.type(), dataset["subset"].value, version)
        if name is not None:
            self.notes.append(f"joints: those of MMPose's {dataset.type()}, as the config names no others")
            return of_table(name).known()
        for wrapper in _WRAPPERS:
            inner = dataset[wrapper]
            if inner:
                found = self.joints(inner[0] if isinstance(inner.value, list | tuple) else inner, version, key)
                if found is not None:
                    return found
        return None

    def _from_file(self, field: Field) -> Joints:
        name = Path(field.text())
        # MMPose looks from the working directory, which for its users is the folder that holds configs/.
        folders = [Path(), self.folder, *self.folder.resolve().parents, *([self.root] if self.root else [])]
        for folder in folders:
            if is_regular(folder / name):
                try:
                    return of_metainfo(read_config(folder / name, self.root).top["dataset_info"]).known()
                except ConfigError as error:
                    raise ConfigError(f"{field.label}: the data set file of {field.path}: {error}") from error
        if mmpose_data.dataset_file(name.stem) is None:
            raise ConfigError(
                f"{field.label}: the data set file {str(name)[:200]!r} ({field.path}) is not there, and MMPose has "
                "none of this name: give it with --dataset-file, or its folder with --config-root"
            )
        self.notes.append(f"joints: {name.name} is not there; taken from posert's table of MMPose's data sets")
        return of_table(name.stem).known()
