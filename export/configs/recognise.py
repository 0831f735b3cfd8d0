"""Recognise what a file is by its contents, and read its description."""

from __future__ import annotations

import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...runtime.bundle.contract import Contract
from ...runtime.errors import ConfigError, ContractError, naming
from ...runtime.pose.heads import head
from ...runtime.system.zip_errors import ZIP_ERRORS
from . import checkpoint, experiment, mmdeploy, mmpose0, mmpose1, onnx_file, yaml_file
from .description import COMBINED, Description
from .evaluate import read_text
from .files import decode, is_regular, read_bytes
from .joints import Joints

_PYTHON = re.compile(r"^(import |from |with read_base\(|[A-Za-z_]\w*\s*(\+|-)?=[^=])", re.MULTILINE)
_KNOWN = (
    "an MMPose 0.x or 1.x config, an experiment file of the HRNet or simple-baselines repository, MMDeploy's "
    "pipeline.json, a checkpoint, an ONNX file, a bundle or contract.yaml"
)
_NO_JOINTS: dict[str, Any] = {
    **{"dataset": "unknown", "keypoints": ("unknown",)},
    **{"flip_pairs": (), "skeleton": (), "sigmas": ()},
}


def read_description(path: str | os.PathLike[str], *, config_root: str | os.PathLike[str] | None = None) -> Description:
    """What a file says about a network. Nothing in it is imported or executed.

    Args:
        path: an MMPose config, an experiment file, MMDeploy's pipeline.json, a checkpoint, an ONNX file, a bundle or
            contract.yaml; recognised by its contents.
        config_root: a folder of configs, for bases and data set files that are not found otherwise.

    Raises:
        ConfigError: it cannot be read, describes no network, or one of a kind that posert does not run.
    """
    path, root = Path(path), None if config_root is None else Path(config_root)
    if not path.exists():
        raise ConfigError(f"there is no file {path}")
    with naming(path):
        return _of_any(path, root)


def _of_any(path: Path, root: Path | None) -> Description:
    if not is_regular(path):
        raise ConfigError(f"{path}:1: a folder, device or pipe, expected {_KNOWN}")
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"PK"):
        return _of_zip(path, root)
    if start.startswith(b"\x80") and start[1:2] <= b"\x05":
        return checkpoint.describe(path, root)
    if re.match(rb".{7}\x00\s*\{\s*\"", start, re.DOTALL):
        raise ConfigError(
            f"{path} holds no description of its network, only weights (safetensors). Give the file that the network "
            "was trained with: --config or --experiment"
        )
    if start[:1] == b"\x08" or path.suffix == ".onnx":  # the version of ONNX, its first field
        return _of_onnx(path)
    try:
        text = decode(read_bytes(path), str(path))
    except ConfigError as error:
        if path.suffix in (".py", ".yaml", ".yml", ".json"):
            raise
        raise ConfigError(f"{path} begins with {start[:8]!r}, as none of these files does: {_KNOWN}") from error
    return _of_python(text, path, root) if _is_python(text, path) else _of_data(text, path)


def _is_python(text: str, path: Path) -> bool:
    if text.lstrip()[:1] in ("{", "["):
        return False
    return path.suffix == ".py" or (path.suffix not in (".yaml", ".yml", ".json") and bool(_PYTHON.search(text)))


def _of_zip(path: Path, root: Path | None) -> Description:
    try:
        with zipfile.ZipFile(path) as archive:
            is_bundle = "manifest.json" in archive.namelist()
    except ZIP_ERRORS as error:
        raise ConfigError(f"{path} is damaged or cut short ({str(error)[:100]}): copy it again") from error
    if is_bundle:
        return of_contract(Contract.from_file(path), "bundle")
    return checkpoint.describe(path, root)


def _of_python(text: str, path: Path, root: Path | None) -> Description:
    config = read_text(text, str(path), path.parent, root)
    values = config.values
    if "model" not in values:
        if "dataset_info" in values:
            raise ConfigError(f"{path} is a data set file, which says the joints alone: give it with --dataset-file")
        if "__config__" in text or re.search(r"^class \w+", text, re.MULTILINE):
            raise ConfigError(
                f"{path} is a program, not a config (as the files of Megvii's MSPN and of Princeton's hourglass are); "
                "for those networks the catalog has rows: posert models"
            )
        raise ConfigError(f"{path}:1: no model in it; expected {_KNOWN}")
    if checkpoint.is_version_1(values):
        return mmpose1.describe(config, root)
    return mmpose0.describe(config, root)


def _of_data(text: str, path: Path) -> Description:
    values = yaml_file.load(text, str(path))
    if experiment.is_experiment(values):
        return experiment.describe(values, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: {type(values).__name__}, expected {_KNOWN}")
    if "pipeline" in values or "onnx_config" in values or "codebase_config" in values:
        return mmdeploy.describe(values, path)
    if values.keys() & {"categories", "kpt_shape", "keypoint_info", "dataset_info"} or (
        "keypoints" in values and not values.keys() & {"width", "heatmap_width", "decode", "dataset"}
    ):
        raise ConfigError(f"{path} is a data set file, which says the joints alone: give it with --dataset-file")
    without_joints = not values.keys() & {"contract", *_NO_JOINTS}  # which --dataset-file says then
    try:
        contract = Contract.from_values({**_NO_JOINTS, **values} if without_joints else values, str(path))
    except ContractError as error:
        raise ConfigError(str(error)) from error  # the mistakes in it
    found = of_contract(contract, "contract file")
    return replace(found, joints=None, channels=None) if without_joints else found


def _of_onnx(path: Path) -> Description:
    found = onnx_file.read_interface(path)
    if onnx_file.CONTRACT_KEY in found.metadata:
        try:
            values = json.loads(found.metadata[onnx_file.CONTRACT_KEY])
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: its metadata {onnx_file.CONTRACT_KEY} is no JSON") from error
        try:
            return of_contract(Contract.from_values(values, f"{path}[{onnx_file.CONTRACT_KEY}]"), "ONNX file")
        except ContractError as error:
            raise ConfigError(str(error)) from error
    beside = path.with_name("pipeline.json")
    if is_regular(beside):
        values = yaml_file.load(decode(read_bytes(beside), str(beside)), str(beside))
        if isinstance(values, dict) and "pipeline" in values:
            return mmdeploy.describe(values, beside)
    if "task" in found.metadata and "stride" in found.metadata:
        raise ConfigError(
            f"{path} is an export of ultralytics (task {found.metadata['task'][:40]!r}), which finds all people of a "
            "picture at once; posert runs top-down networks that give heatmaps or SimCC vectors"
        )
    ports = "; ".join(map(str, (*found.inputs[:4], *found.outputs[:4])))
    raise ConfigError(
        f"{path} holds no description of its pre- and post-processing (it has {ports[:500]}). Give the config that "
        "it was exported from with --config, or --contract contract.yaml"
    )


def of_contract(contract: Contract, source: str) -> Description:
    """The description of a file that holds a contract."""
    values: dict[str, Any] = dict(vars(contract))
    joints = Joints(*(values.pop(name) for name in _NO_JOINTS))
    vectors = len(head(contract.decode).shapes(contract)) > 1
    channels = len(joints.keypoints) * (3 if contract.decode in COMBINED else 1)
    return Description(source, "simcc" if vectors else "heatmap", values, joints, channels=channels)
