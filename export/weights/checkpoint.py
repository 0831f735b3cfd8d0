"""Weights for a network: from a local file of any of the published layouts, from the publisher, or random."""

from __future__ import annotations

import os
import pickle
import re
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
from ...runtime.system.files import cache_folder
from ..archs import Constructor, archs
from ..catalog import Row
from .download import DownloadError, Progress, download, sha256

State = dict[str, Tensor]

# Counts training steps; no result uses it, and files of torch 0.4.0 and before have none.
_COUNTER = "num_batches_tracked"

_WAYS_OUT = (
    "Ways on: `--weights FILE` with a copy that you have, `--weights demo` for the small network that comes with "
    "posert, `--weights random` to try the tools without trained weights"
)


@dataclass(frozen=True)
class Layout:
    """How a code base spells the keys of its checkpoints.

    Attributes:
        name: family as in the catalog, and a version where it matters after a dash.
        mark: pattern that some key of this layout matches, and no key of the layouts after it.
        rules: (pattern, replacement) from its keys to those of the networks in `archs`; the first that matches a key
            is applied; a key that none matches stays.
        drop: pattern of entries that are no weights.
        biased: the convolutions before a batch-norm have a bias; it is folded into the batch-norm's mean.
    """

    name: str
    mark: str
    rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = ()
    drop: str = r"$^"
    biased: bool = False


def _megvii_head(m: re.Match[str]) -> str:
    """Stage S, unit U (from 1) and layer R (from 1) count on as heads 4 * S + U - 1 and layers R - 1."""
    stage, unit, layer = (int(g) for g in m.groups())
    return f"predict_layers.{4 * stage + unit - 1}.conv_layers.{layer - 1}."


LAYOUTS = (
    Layout("mmpose-1.x", r"^head\.", ((r"^(backbone|head)\.", ""),), drop=r"^data_preprocessor\."),
    Layout("mmpose-0.x", r"^(backbone|keypoint_head)\.", ((r"^(backbone|keypoint_head)\.", ""),)),
    Layout(
        "megvii",
        r"\.conv_bn_relu\d\.",
        (
            (r"^top\.conv\.", "top.top.0."),
            (r"^stage(\d+)\.(.*)\.conv_bn_relu(\d)\.(conv|bn)\.", r"multi_stage_mspn.\1.\2.\4\3."),
            (r"^stage(\d+)\.upsample\.up(\d)\.res_conv(\d)\.", _megvii_head),
            (r"^stage(\d+)\.(upsample\.up\d)\.u_skip\.", r"multi_stage_mspn.\1.\2.in_skip."),
            (r"^stage(\d+)\.(upsample\.up\d)\.skip(\d)\.", r"multi_stage_mspn.\1.\2.out_skip\3."),
            (r"^stage(\d+)\.", r"multi_stage_mspn.\1."),
        ),
        biased=True,
    ),
    Layout("original", ""),
)
"""MMPose 1.x, MMPose 0.x, Megvii's MSPN, and the repositories in which the other architectures first appeared."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights that fit a network.

    Attributes:
        state_dict: every entry that the network has, in its own names, float32.
        layout: name of the layout in which the file was written.
        sha256: hex digest of the file.
    """

    state_dict: State
    layout: str
    sha256: str


def load(path: str | os.PathLike[str], network: nn.Module) -> Checkpoint:
    """Read a .pth, .pt or .safetensors file and fit it to a network. Nothing in the file is executed.

    Raises:
        CheckpointError: the file cannot be read, holds other things than weights, holds NaN or infinity, or does not
            fit; the message lists what is missing, unexpected and of another shape, and names the architecture that
            the file looks like.
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
    """A state dict of any layout as that of a network, by names and shapes alone; `file` is its name in the message.

    What has the network's own names is taken as it is, even if they look like those of another code base.

    Raises:
        CheckpointError: it does not fit; the message names the architecture that it looks like.
    """
    expected = network.state_dict()
    state, layout = _unwrap(state), LAYOUTS[-1]
    if _mismatch(state, expected):
        state, layout = recognise(state)
    problems = _mismatch(state, expected)
    if problems:
        guess = looks_like(state)
        hint = f"\nThe file looks like {guess}: say so with --arch and --dataset." if guess else ""
        raise CheckpointError(f"{file} (layout {layout.name}) does not fit the network:\n" + "\n".join(problems) + hint)
    return {key: state[key].to(value.dtype) if key in state else value for key, value in expected.items()}, layout


def recognise(state: Mapping[str, Tensor]) -> tuple[State, Layout]:
    """The layout of a state dict, and its entries under the names that the networks in `archs` use."""
    state = _unwrap(state)
    layout = next(x for x in LAYOUTS if any(re.search(x.mark, key) for key in state) or not x.mark)
    kept = {key: value for key, value in state.items() if not re.search(layout.drop, key)}
    if layout.biased:
        for key in [key for key in kept if key.endswith(".conv.bias")]:
            mean = key.removesuffix("conv.bias") + "bn.running_mean"
            if mean in kept:
                kept[mean] = kept[mean] - kept.pop(key)
    return {_rename(key, layout): value for key, value in kept.items()}, layout


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """The architecture whose weights have these names and shapes, whatever the joints; for messages."""
    shapes = {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}
    for name, construct in archs().items():
        expected = _shapes(construct, 1)
        if shapes.keys() == expected.keys():
            # one map per joint: where a network for one joint has 1 channel, this one has K
            joints = next((shape[0] for key, shape in shapes.items() if expected[key][:1] == (1,)), 1)
            if shapes == _shapes(construct, joints):
                return f"{name} with {joints} keypoints"
    return None


@cache
def _shapes(construct: Constructor, keypoints: int) -> dict[str, tuple[int, ...]]:
    """Shape of each weight of an architecture."""
    with torch.device("meta"):
        state = construct(keypoints=keypoints).state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}


def fetch(row: Row, progress: Progress | None = None) -> Path:
    """The published weights of a catalog row, from the cache or from the publisher (`--weights auto`).

    They are kept in `checkpoints` in `posert.runtime.system.files.cache_folder`.

    Raises:
        CheckpointError: no address is known, or the file could not be had; the message says what else can be done.
    """
    if row.url is None:
        where = f"{row.file} of {row.source}" if row.file else f"none were published by {row.source}"
        raise CheckpointError(f"{row.id}: its weights have no direct address ({where}). {_WAYS_OUT}")
    name = str(row.file) if row.sha256_prefix else row.id + Path(str(row.file)).suffix
    path = cache_folder() / "checkpoints" / name
    if path.exists():
        return path
    try:
        return download(row.url, path, row.sha256_prefix, progress)
    except DownloadError as error:
        raise CheckpointError(f"cannot download {row.url}: {error}. {_WAYS_OUT}") from error


def random_weights(network: nn.Module, seed: int = 0) -> State:
    """Fill a network with random weights under which no layer dies or explodes, and return its state dict.

    Convolutions as He et al. (ICCV 2015). A batch-norm's variance is then one number for all channels, what a picture
    of noise has there: so sums of branches stay in range at any depth, and no channel that noise hardly moves turns up
    a thousand times too large in another picture. The same seed gives the same weights.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def settle(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        power = inputs[0].square().mean()
        norm.running_mean.copy_(0.05 * power.sqrt() * normal(*norm.running_mean.shape))
        norm.running_var.fill_(power)

    hooks = []
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                weight = module.weight
                # products that reach one output value
                fan_in = weight[0].numel() if isinstance(module, nn.Conv2d) else weight[:, 0].numel() / 4
                weight.copy_(normal(*weight.shape) * (2.0 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(0.05 * normal(*module.bias.shape))
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.weight.copy_(1 + 0.1 * normal(*module.weight.shape))
                module.bias.copy_(0.05 * normal(*module.bias.shape))
                hooks.append(module.register_forward_pre_hook(settle))
        network.eval()(normal(1, 3, 128, 128))
    for hook in hooks:
        hook.remove()
    return network.state_dict()


def _read(path: Path) -> Any:
    """What the file holds, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            head = file.read(64).lstrip().lower()
        if head.startswith((b"<!doctype", b"<html")):
            raise CheckpointError(f"{path} is a web page, not a checkpoint: download it again") from error
        needs = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} is no plain file of weights: it {'needs ' + needs.group(1) if needs else 'cannot be unpickled'}, "
            "and posert runs no code from a checkpoint. Where you trust the file and have the code that wrote it, "
            'keep the weights alone: torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW_FILE)'
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
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
        content = next((content[key] for key in ("state_dict", "model", "model_state_dict") if key in content), content)
    keys = f" with {_some(map(str, content))}" if isinstance(content, Mapping) else ""
    raise CheckpointError(
        f"{path} holds no state dict: found {type(content).__name__}{keys}; expected tensors by name, alone or under "
        "state_dict or model"
    )


def _unwrap(state: Mapping[str, Tensor]) -> State:
    """Without what a training script puts around its network: DataParallel, or an attribute called model."""
    while state and (prefix := next((p for p in ("module.", "model.") if all(k.startswith(p) for k in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _rename(key: str, layout: Layout) -> str:
    for pattern, replacement in layout.rules:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


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
    """The first few of many names."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
