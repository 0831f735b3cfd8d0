"""A checkpoint's own description: MMPose writes the config and the joints into `meta`. Needs no torch, runs nothing."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from ...runtime.errors import ConfigError
from ...runtime.system.zip_errors import ZIP_ERRORS
from . import mmpose0, mmpose1, pickles
from .description import Description
from .evaluate import read_text
from .fields import Field
from .joints import Joints

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of torch.save before torch 1.6 begins."""
_MAX_PICKLE = 64 << 20
_MAX_TEXT = 1 << 20


def read_meta(path: Path) -> dict[str, Any] | None:
    """The `meta` of a checkpoint, with plain values; None if it has none.

    Raises:
        ConfigError: the file is no checkpoint, or damaged.
    """
    content = _content(path)
    meta = content.get("meta") if isinstance(content, dict) else None
    return meta if isinstance(meta, dict) else None


def describe(path: Path, root: Path | None = None) -> Description:
    """What a checkpoint says about its network.

    Raises:
        ConfigError: it holds no description, or one that cannot be used.
    """
    meta = read_meta(path) or {}
    text = next((meta[name] for name in ("cfg", "config") if isinstance(meta.get(name), str)), None)
    if text is None:
        raise ConfigError(
            f"{path} holds no description of its network, only weights. Give the file that the network was trained "
            "with: --config CONFIG.py (MMPose) or --experiment FILE.yaml (HRNet repository)"
        )
    if len(text) > _MAX_TEXT:
        raise ConfigError(f"{path}: the config in it is larger than {_MAX_TEXT} characters")
    label = f"{path}[{'meta.cfg' if 'cfg' in meta else 'meta.config'}]"
    config = read_text(text, label, path.parent, root)
    if is_version_1(config.values):
        return mmpose1.describe(config, root, _joints(meta, str(path)), "MMPose 1.x checkpoint")
    return mmpose0.describe(config, root, "MMPose 0.x checkpoint")


def is_version_1(values: Any) -> bool:
    """Whether a config is of MMPose 1.x, by what it defines."""
    model = values.get("model")
    model = model if isinstance(model, dict) else {}
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader", "codec")
    return "head" in model or "data_preprocessor" in model or any(name in values for name in loaders)


def _content(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
        file.seek(0)
        if head == MAGIC:
            for _ in range(3):  # a magic number, a version, the machine
                pickles.load(file, str(path))
            return pickles.load(file, str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(names) != 1:
                raise ConfigError(f"{path}: a zip that torch.save did not write (no data.pkl in it)")
            with archive.open(names[0]) as member:
                data = member.read(_MAX_PICKLE + 1)
    except ZIP_ERRORS as error:
        raise ConfigError(f"{path} is damaged or cut short ({str(error)[:100]}): copy it again") from error
    if len(data) > _MAX_PICKLE:
        raise ConfigError(f"{path}: the pickle in it is larger than {_MAX_PICKLE} bytes, which no checkpoint's is")
    return pickles.load(io.BytesIO(data), str(path))


def _joints(meta: dict[str, Any], label: str) -> Joints | None:
    """The joints of `meta.dataset_meta`, as MMPose 1.x parsed them."""
    found = meta.get("dataset_meta")
    if not isinstance(found, dict):
        return None
    info = Field(pickles.plain(found), "meta.dataset_meta", label)
    names = info["keypoint_id2name"]
    if not names:
        return None
    count = len(names.mapping())
    if set(names.mapping()) != set(range(count)):
        raise names.error(f"the keys 0 to {count - 1}")
    flip = [i.whole() for i in info["flip_indices"].items()]
    if len(flip) != count or any(not 0 <= j < count or flip[j] != i for i, j in enumerate(flip)):
        raise info["flip_indices"].error("for each joint its partner in a mirror image, or itself")
    links = [(link[0].whole(), link[1].whole()) for link in info["skeleton_links"].items()]
    return Joints(
        info["dataset_name"].text("unnamed"),
        tuple(Field(names.mapping()[i], f"{names.path}[{i}]", label).text() for i in range(count)),
        tuple((i, j) for i, j in enumerate(flip) if i < j),
        tuple(links),
        tuple(sigma.number() for sigma in info["sigmas"].items()),
    ).known()
