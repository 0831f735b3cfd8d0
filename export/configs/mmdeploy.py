"""MMDeploy's pipeline.json, which lies beside the graph in its SDK folders, with detail.json.

It states sizes, normalisation and the codec, but not the joints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...runtime.errors import ConfigError
from . import mmpose1, yaml_file
from .description import Description
from .evaluate import Config
from .fields import Field
from .files import decode, is_regular, read_bytes

SOURCE = "MMDeploy pipeline.json"
_CODECS = ("MSRAHeatmap", "UDPHeatmap", "MegviiHeatmap", "SimCCLabel")


def describe(values: Any, path: Path) -> Description:
    """What pipeline.json, or the one beside detail.json, says.

    Raises:
        ConfigError: it is of another task, or lacks what a contract needs.
    """
    if "pipeline" not in values:
        beside = path.with_name("pipeline.json")
        if not is_regular(beside):
            raise ConfigError(f"{path}: detail.json does not say the normalisation; expected pipeline.json beside it")
        path = beside
        values = yaml_file.load(decode(read_bytes(path), str(path)), str(path))
    top = Field(values, "", str(path))
    tasks = top["pipeline"]["tasks"].items()
    transforms = {step.type(): step for task in tasks for step in task["transforms"].items()}
    decoders = [task for task in tasks if task["module"].text("") == "mmpose"]
    if len(decoders) != 1:
        raise ConfigError(f"{path}: {len(decoders)} tasks of mmpose, expected the one that decodes joints")
    params = decoders[0]["params"]
    if params["type"].text("") not in _CODECS:
        raise params["type"].error(f"one of {', '.join(_CODECS)}")
    # The same facts in the words of an MMPose 1.x config, from which it was exported.
    normal = transforms.get("Normalize")
    affine, box = transforms.get("TopDownAffine"), transforms.get("TopDownGetBboxCenterScale")
    if normal is None or affine is None:
        raise ConfigError(f"{path}: no {'Normalize' if normal is None else 'TopDownAffine'} among the transforms")
    udp = affine["use_udp"]
    config = {
        "model": {
            "type": "TopdownPoseEstimator",
            "data_preprocessor": {
                "mean": normal["mean"].value,
                "std": normal["std"].value,
                "bgr_to_rgb": normal["to_rgb"].value,
            },
            "head": {"type": "of the graph", "decoder": params.mapping()},
            "test_cfg": params.mapping(),
        },
        "test_dataloader": {
            "dataset": {
                "pipeline": [
                    {"type": "GetBBoxCenterScale", "padding": box["padding"].value if box else None},
                    {"type": "TopdownAffine", "input_size": affine["image_size"].value, "use_udp": udp.value},
                ]
            }
        },
    }
    if params["export_postprocess"].flag(False):
        raise params["export_postprocess"].error("False: with it the graph gives joints, not vectors")
    notes = () if udp else (f"not stated: use_udp of TopDownAffine in {path.name}; the crop is taken as without UDP",)
    found = mmpose1.describe(Config(config, str(path), notes), source=SOURCE)
    return Description(
        found.source, found.kind, found.fields, flip_test=found.flip_test, channels=None, notes=found.notes
    )
