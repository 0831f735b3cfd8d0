"""Arguments that describe a model of your own: its config, its joints, its network."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, PosertError
from ..runtime.system.zip_errors import ZIP_ERRORS

if TYPE_CHECKING:
    from ..runtime.bundle.contract import Contract
    from .builder.model import OnnxModel, OwnModel
    from .configs import Description, Joints

OPTIONS = ("config", "contract", "network", "dataset_file")
_SOURCES = {"MMPose 1.x": "mmpose-1", "MMPose 0.x": "mmpose-0"}


def add_arguments(parser: argparse.ArgumentParser, network: bool = True) -> None:
    """Declare the arguments; without `network` those of a model that is no ONNX file."""
    add = parser.add_argument_group("model of your own").add_argument
    config = "the config that the network was trained with: MMPose 0.x or 1.x (default: the one in --weights)"
    add("--config", type=Path, metavar="FILE", help=config)
    experiment = "the same for the HRNet and simple-baselines repositories: their YAML"
    add("--experiment", type=Path, dest="config", metavar="FILE", help=experiment)
    if network:
        add("--network", type=Path, metavar="FILE", help="an ONNX file, in place of --weights")
    add("--contract", type=Path, metavar="FILE", help="contract.yaml, in place of --config (posert contract shows one)")
    joints = (
        "the joints: YAML with name and keypoints, MMPose's dataset_info, COCO annotations or ultralytics' data.yaml"
    )
    add("--dataset-file", type=Path, metavar="FILE", help=joints)
    add("--config-root", type=Path, metavar="DIR", help="a folder of configs, for bases that are not found otherwise")


def model_of(args: argparse.Namespace) -> OwnModel | OnnxModel:
    """The model of your own that the arguments describe.

    Raises:
        PosertError: they contradict each other, or a file does not say what is needed.
    """
    from .builder.model import OnnxModel

    if args.config is not None and args.contract is not None:
        raise PosertError("--config and --contract both say what the network expects: give one of them")
    if args.network is not None and args.weights != "auto":
        raise PosertError(f"--network {args.network} has its weights in it: leave --weights out")
    if args.imgsz is not None and (args.arch is None or args.contract is not None):
        given = next(name for name in ("contract", "config", "network", "weights") if getattr(args, name) is not None)
        raise PosertError(
            f"--imgsz goes with --arch and without --contract: with --{given} that file says the size of the crop "
            "(posert contract FILE shows it; width and height in contract.yaml)"
        )
    if args.arch is not None:
        return _of_architecture(args)
    weights = _file(args)
    found = _description(args, weights)
    contract = _contract(found, args)
    note = "; ".join(found.notes)
    if args.network is not None:
        return OnnxModel(args.network, contract, source=found.source, note=note)
    return _of_config(args, found, contract, weights, note)


def _file(args: argparse.Namespace) -> Path:
    """The file that the network's weights are in."""
    path = args.network or Path(args.weights)
    if args.weights in ("auto", "demo", "random") and args.network is None:
        raise PosertError(
            "a model of your own needs its weights: --weights my.pth, or --network net.onnx. Published ones go with "
            "--arch or --model"
        )
    if not path.is_file():
        raise PosertError(f"there is no file {path}")
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK") and _is_bundle(path):
        raise PosertError(f"{path} is a bundle, which has its graphs already: posert inspect shows what is in it")
    if args.network is not None and (start.startswith((b"PK", b"\x80")) or path.suffix == ".safetensors"):
        raise PosertError(f"{path} is a checkpoint, not an ONNX file: give it with --weights")
    if args.network is None and path.suffix == ".onnx":
        raise PosertError(f"{path} is an ONNX file: give it with --network, in place of --weights")
    if args.network is None and path.suffix in (".py", ".yaml", ".yml"):
        raise PosertError(f"{path} is a config, not a checkpoint: give it with --config, and the .pth with --weights")
    return Path(path)


def _is_bundle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "manifest.json" in archive.namelist()
    except ZIP_ERRORS:
        return False  # a checkpoint, and damaged: its reader says how


def _description(args: argparse.Namespace, weights: Path) -> Description:
    """What --config or --contract says, or the file of the weights itself; with the joints of --dataset-file."""
    from .configs import read_description

    given = args.config or args.contract
    found = read_description(given or weights, config_root=args.config_root)
    if given is not None:
        found = _with_differences(found, weights, args.config_root)
    joints = _joints(args)
    return found if joints is None else found.joined(joints)


def _joints(args: argparse.Namespace) -> Joints | None:
    from .configs import read_joints

    return None if args.dataset_file is None else read_joints(args.dataset_file, args.config_root)


def _with_differences(found: Description, weights: Path, root: Path | None) -> Description:
    """The given description, with a note on what the weights' own metadata say otherwise."""
    from .configs import read_description

    try:
        own = read_description(weights, config_root=root)
    except ConfigError:  # most files of weights describe nothing
        return found
    named = [
        f"{name} {found.fields.get(name)!r} and not {value!r}"
        for name, value in own.fields.items()
        if name in found.fields and found.fields[name] != value
    ]
    named += [
        f"{name} {given!r:.60} and not {value!r:.60}"
        for name, value in _layers(own).items()
        if (given := _layers(found).get(name, value)) != value
    ]
    if own.joints is not None and found.joints is not None and own.joints.keypoints != found.joints.keypoints:
        named.append(f"the joints of {found.joints.name!r} and not those of {own.joints.name!r}")
    note = (f"the given file says {', '.join(named)}, which {weights.name} says of itself",) if named else ()
    return replace(found, notes=(*found.notes, *note))


def _layers(found: Description) -> dict[str, Any]:
    """What a config says of its layers, by section and key; of these some change the result and no name or shape."""
    from .networks.section import NEUTRAL

    sections = {name: found.network.get(name) for name in ("backbone", "neck", "head", "keypoint_head", "EXTRA")}
    return {
        f"{name} {key}": value
        for name, section in sections.items()
        if isinstance(section, Mapping)
        for key, value in section.items()
        if key not in NEUTRAL | {"norm_cfg", "decoder", "loss"}  # the contract has what a decoder says
    }


def _contract(found: Description, args: argparse.Namespace) -> Contract:
    if found.contract is None:
        raise PosertError(
            f"this {found.source} does not say the names of the joints: give them with --dataset-file joints.yaml "
            "(name and keypoints; flip_pairs, skeleton and sigmas where there are any)"
        )
    return found.contract


def _of_config(args: argparse.Namespace, found: Description, contract: Contract, weights: Path, note: str) -> OwnModel:
    from .builder.model import OwnModel
    from .networks import network_of

    if not found.network:
        raise PosertError(
            f"this {found.source} does not describe the network's layers: give its architecture with --arch, the "
            "config with --config, or the network as ONNX with --network"
        )
    kind = next((kind for words, kind in _SOURCES.items() if found.source.startswith(words)), "experiment")
    built = network_of(found.network, kind)
    built.check_size()
    return OwnModel(built.build, contract, built.name, weights, found.source, note, found.output_keypoints)


def _of_architecture(args: argparse.Namespace) -> OwnModel:
    """A known architecture for joints, a size or a contract that no published row has."""
    from . import catalog
    from .archs import architecture, build_arch
    from .builder.model import OwnModel
    from .configs import read_description
    from .configs.description import COMBINED

    if args.network is not None or args.config is not None:
        raise PosertError(
            "--arch goes with --contract or --dataset-file; --config and --network say the network themselves"
        )
    weights, row = _file(args), catalog.find(args.arch)
    joints = _joints(args)
    if args.contract is not None:
        found = read_description(args.contract, config_root=args.config_root)
        contract = _contract(found if joints is None else found.joined(joints), args)
    else:
        assert joints is not None
        contract = row.contract()
        if args.imgsz is not None:
            height, width = catalog.parse_imgsz(args.imgsz)
            stride = architecture(row.arch).stride
            contract = replace(contract, width=width, height=height)
            contract = replace(contract, heatmap_width=width // stride, heatmap_height=height // stride)
        contract = replace(
            contract,
            dataset=joints.name,
            keypoints=joints.keypoints,
            flip_pairs=joints.flip_pairs,
            skeleton=joints.skeleton,
            sigmas=joints.sigmas,
        )
    channels = len(contract.keypoints) * (3 if contract.decode in COMBINED else 1)
    note = f"crop, colours and decoding as of {row.id}" if args.contract is None else ""
    return OwnModel(lambda: build_arch(row.arch, channels), contract, row.arch, weights, "", note)
