"""Read a checkpoint file of any of the published layouts and fit it to a network."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ...runtime.errors import CheckpointError
from ...runtime.system.files import sha256
from ...runtime.system.zip_errors import ZIP_ERRORS
from ..archs import architectures
from .layouts import LAYOUTS, Layout, State, recognise, unwrap
from .likeness import Likeness, likeness
from .training import read_old_weights, read_weights

# Counts training steps; no result uses it, and files of torch 0.4.0 and before have none.
_COUNTER = "num_batches_tracked"
# Where checkpoints hold weights. The HRNet repository keeps those of the best epoch beside the last ones, and a text
# under `model`.
_STATES = ("best_state_dict", "state_dict", "model", "model_state_dict")
# What torch raises for files that are cut off or changed: its reader of old files checks by assertions.
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, AssertionError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Checkpoint:
    """Weights that fit a network, and the file that they are from."""

    state_dict: State  # every entry that the network has, in its own names, float32
    layout: str  # name of the layout of the file
    sha256: str  # hex digest of the file


def load(path: str | os.PathLike[str], network: nn.Module) -> Checkpoint:
    """Read a .pth, .pt or .safetensors file and fit it to a network. Nothing in the file is executed.

    Raises CheckpointError: the file cannot be read, holds other things than weights, holds NaN or infinity, or does not
    fit; the message lists what is missing, unexpected and of another shape, and names the architecture that the file
    looks like.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint file {path}")
    state, layout = fit(_unpack(_read(path), path), network, path.name)
    bad = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"{path.name} holds NaN or infinite weights in {_some(bad)}; the file is damaged or the training failed: "
            "take an earlier checkpoint"
        )
    return Checkpoint(state, layout.name, sha256(path))


def fit(state: Mapping[str, Tensor], network: nn.Module, file: str) -> tuple[State, Layout]:
    """Map a state dict of any layout to a network's, by names and shapes alone; `file` is its name in the message.

    A state dict with the network's own names is taken as it is, even if they look like those of another code base.
    Raises CheckpointError: it does not fit; the message names the architecture that it looks like.
    """
    expected = network.state_dict()
    state, layout = unwrap(state), LAYOUTS[-1]
    if _mismatch(state, expected):
        found = {name: fitted for name, part in _parts(state).items() if (fitted := _fitted(part, expected))}
        found = {name: one for name, one in found.items() if name.rpartition(".")[0] not in found}
        if len(found) == 1:  # a training script's name for its network, such as `net.`
            state, layout = next(iter(found.values()))
        else:
            state, layout = recognise(state)
            if found and _mismatch(state, expected):
                raise CheckpointError(
                    f"{file} holds {len(found)} networks that fit, under {', '.join(f'{name}.' for name in found)}: "
                    "keep the weights of one of them in a file of its own, such as torch.save({k: v for k, v in "
                    f"state.items() if k.startswith({next(iter(found)) + '.'!r})}}, FILE)"
                )
    problems = _mismatch(state, expected)
    if problems:
        seen, wanted = likeness(state), likeness(expected)
        lines = [f"  the weights are of {seen}", f"  the network is {wanted}", *problems, _mend(state, seen, wanted)]
        raise CheckpointError(f"{file} (layout {layout.name}) does not fit the network:\n" + "\n".join(lines))
    return {key: state[key].to(value.dtype) if key in state else value for key, value in expected.items()}, layout


def _mend(state: Mapping[str, Tensor], seen: Likeness, wanted: Likeness) -> str:
    """What to do about weights that do not fit."""
    if guess := looks_like(state):
        return f"The file looks like {guess}: say so with --arch and --dataset."
    if seen.network == wanted.network and None not in (seen.outputs, wanted.outputs) and seen.outputs != wanted.outputs:
        return (
            f"The weights are for {seen.outputs} joints, the network for {wanted.outputs}: give the config, the "
            "contract or the --dataset-file of the joints that the weights were trained on."
        )
    return (
        "Give the config that these weights were trained with (--config or --experiment), or the weights of this one."
    )


def _fitted(part: State, expected: Mapping[str, Tensor]) -> tuple[State, Layout] | None:
    """A part of a state dict as the network's own, if it fits, in any layout."""
    if not _mismatch(part, expected):
        return part, LAYOUTS[-1]
    known, layout = recognise(part)
    return None if _mismatch(known, expected) else (known, layout)


def _parts(state: Mapping[str, Tensor]) -> dict[str, State]:
    """The entries under each first name, without it; of two names, such as `backbone.body.`, under both."""
    parts: dict[str, State] = {}
    for key, value in state.items():
        names = key.split(".")
        for depth in (1, 2):
            parts.setdefault(".".join(names[:depth]), {})[".".join(names[depth:])] = value
    return {name: part for name, part in parts.items() if "" not in part}


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """The architecture whose weights have these names and shapes, whatever the joints; for messages."""
    shapes = {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}
    for name, architecture in architectures().items():
        try:
            expected = _shapes(architecture.build, 1)
        except Exception:  # of a network of somebody else, which this file is not of
            continue
        if shapes.keys() == expected.keys():
            # one map per joint: where a network for one joint has 1 channel, this one has K
            joints = next((shape[0] for key, shape in shapes.items() if expected[key][:1] == (1,)), 1)
            if shapes == _shapes(architecture.build, joints):
                return f"{name} with {joints} keypoints"
    return None


@cache
def _shapes(build: Callable[..., nn.Module], keypoints: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = build(keypoints).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return read_weights(path) if zipfile.is_zipfile(path) else read_old_weights(path)
    except CheckpointError:
        with path.open("rb") as file:
            head = file.read(64).lstrip().lower()
        if head.startswith((b"<!doctype", b"<html")):
            raise CheckpointError(f"{path} is a web page, not a checkpoint: download it again") from None
        raise
    except (pickle.UnpicklingError, safetensors.SafetensorError, *ZIP_ERRORS, *_UNREADABLE) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}): it is cut off or of another kind; "
            "expected a .pth or .pt file of torch.save, or .safetensors"
        ) from error


def _unpack(content: Any, path: Path) -> Mapping[str, Tensor]:
    """The state dict in a file that may hold it next to an optimizer, an epoch and the like."""
    for _ in range(3):  # as deep as files were seen to nest
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(key): value for key, value in content.items()}
        content = next((content[key] for key in _STATES if key in content), content)
    keys = f" with {_some(map(str, content))}" if isinstance(content, Mapping) else ""
    raise CheckpointError(
        f"{path} holds no state dict: found {type(content).__name__}{keys}; expected tensors by name, alone or under "
        "state_dict or model"
    )


def _mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """One line for each kind of difference, empty where the state fits."""
    missing = [k for k in expected if k not in state and not k.endswith(_COUNTER)]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in state and state[k].shape != v.shape
    ]
    kinds = [
        f"{k} {state[k].dtype} instead of {v.dtype}"
        for k, v in expected.items()
        if k in state and state[k].is_floating_point() != v.is_floating_point() and not k.endswith(_COUNTER)
    ]
    lines = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "of another type": kinds}
    return [f"  {len(found)} {name}: {_some(found)}" for name, found in lines.items() if found]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
