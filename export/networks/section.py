"""Read a section of a config key by key, and refuse what was not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...runtime.errors import CatalogError

# Keys that change nothing at inference, in any section.
NEUTRAL = frozenset(
    ("_scope_", "drop_path_rate", "frozen_stages", "init_cfg", "loss", "loss_keypoint", "norm_eval", "pretrained")
    + ("test_cfg", "train_cfg", "with_cp", "zero_init_residual")
)
MOST, MOST_LAYERS = 1 << 14, 64
"""The largest number of channels, and of blocks, modules, stages or stacks; more would take all memory."""
OTHER_WAYS = "Such a network comes by ONNX (--network net.onnx) or as an nn.Module (posert.export.build)"
_REQUIRED: Any = object()


class Section:
    """A section of a config, such as `model.backbone`. Each key is asked for by name; `close` refuses the others.

    Its methods raise CatalogError where a key is missing, is not known or has a value that is not known.
    """

    def __init__(self, values: Any, name: str, kind: str = "") -> None:
        if not isinstance(values, Mapping):
            raise CatalogError(f"{name}: expected a dict, found {values!r:.80}")
        self.values: Mapping[str, Any] = values
        self.name = name
        self.kind = kind  # the type of what it describes, for messages
        self._read: set[str] = set()

    def refusal(self, what: str) -> CatalogError:
        """An error that says what of this section is not known, and how such a network can come."""
        return CatalogError(f"{self.name}{f' ({self.kind})' if self.kind else ''}: {what}. {OTHER_WAYS}")

    def raw(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value of a key, whatever it is."""
        self._read.add(key)
        if key not in self.values and default is _REQUIRED:
            raise self.refusal(f"{key} is missing")
        return self.values.get(key, default)

    def section(self, key: str, default: Any = _REQUIRED) -> Section:
        return Section(self.raw(key, default), f"{self.name}.{key}")

    def integer(self, key: str, default: Any = _REQUIRED, least: int = 1, most: int = MOST) -> int:
        value = self.raw(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.refusal(f"{key}={value!r:.80}, expected an integer from {least} to {most}")
        return value

    def integers(
        self,
        key: str,
        default: Any = _REQUIRED,
        *,
        length: int | None = None,
        known: Sequence[int] | None = None,
        most: int = MOST,
    ) -> tuple[int, ...]:
        """A list of integers from 1 to `most`, of this length and out of `known` if stated. None is an empty list."""
        value = self.raw(key, default)
        value = () if value is None else value
        if not isinstance(value, list | tuple) or not all(type(x) is int and 0 < x <= most for x in value):
            raise self.refusal(f"{key}={value!r:.80}, expected a list of integers from 1 to {most}")
        if len(value) > 4 * MOST_LAYERS:
            raise self.refusal(f"{key} has {len(value)} integers, expected at most {4 * MOST_LAYERS}")
        if length is not None and len(value) != length:
            raise self.refusal(f"{key}={value!r:.80}, expected {length} integers")
        if known is not None and not set(value) <= set(known):
            raise self.refusal(f"{key}={value!r:.80}, only {', '.join(map(str, known))} are known")
        return tuple(value)

    def one_of(self, key: str, known: Sequence[Any], default: Any = _REQUIRED) -> Any:
        """A value that is one of these, of the same type."""
        value = self.raw(key, default)
        if not any(value == x and type(value) is type(x) for x in known):
            raise self.refusal(f"{key}={value!r:.80}, only {', '.join(map(repr, known))} is known")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        return bool(self.one_of(key, (False, True), default))

    def ignore(self, *keys: str) -> None:
        """Accept further keys that change nothing at inference."""
        self._read.update(keys)

    def convolutions(self) -> None:
        """Accept plain convolutions and batch-norm, which all families have; another epsilon is another result."""
        conv = self.raw("conv_cfg", None)
        if conv is not None and conv not in ({"type": "Conv2d"}, {"type": "Conv"}):
            raise self.refusal(f"conv_cfg={conv!r:.80}, only plain convolutions are known")
        if self.raw("norm_cfg", None) is not None:
            norm = self.section("norm_cfg")
            norm.ignore("requires_grad", "momentum")
            norm.one_of("type", ("BN", "BN2d", "SyncBN", "MMSyncBN"))
            norm.one_of("eps", (1e-5,), 1e-5)
            norm.close()

    def close(self) -> None:
        """Refuse what nobody asked for."""
        unknown = [key for key in self.values if key not in self._read | NEUTRAL]
        if unknown:
            shown = ", ".join(f"{key}={self.values[key]!r:.60}" for key in unknown)
            raise self.refusal(f"{shown} is not known")
