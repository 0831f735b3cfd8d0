"""An engine file in place of a bundle: `PoseEstimator("NAME.engine")`, `posert run NAME.engine ...`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..bundle.archive import Golden
from ..bundle.contract import Contract
from ..bundle.manifest import Artifact
from ..bundle.signature import PublicKey
from ..bundle.signature import trusted_keys as keys_of_machine
from ..errors import BackendError
from .sidecar import SUFFIX, Engine, EngineMetadata, Origin, read_engine


class EngineFile:
    """An engine and what its sidecar has from the bundle, read as a `Bundle` is.

    An engine is machine code: run only those of people whom you would let run a program here. The plan itself is read,
    and its hash checked, when it is asked for.

    Args:
        path: of the engine; its sidecar lies beside it.
        trusted_keys: public keys, or files of them. One must have signed the sidecar (`posert sign`). None:
            those of `POSERT_TRUSTED_KEYS`; where that is not set, anybody's engine is taken.

    Raises:
        BundleError: no trusted key has signed the sidecar.
        InputError: a trusted key cannot be read.
        BackendError: it has no sidecar, is not the plan that its sidecar describes, or is one of the cache, which has
            no contract.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, trusted_keys: Iterable[str | os.PathLike[str]] | None = None
    ) -> None:
        self.path = Path(path)
        given = None if trusted_keys is None else [PublicKey.read(key) for key in trusted_keys]
        self._keys = keys_of_machine() if given is None else given
        if not self.path.is_file():
            raise BackendError(f"{self.path}: no such file; make one with `posert compile BUNDLE --output DIR`")
        engine = self._read(whole=False)
        if engine.origin is None:
            raise BackendError(
                f"{self.path} is an engine of the cache, whose sidecar has no contract: run its bundle, or make one "
                f"that runs by itself: posert compile BUNDLE --backend {engine.metadata.backend} --output DIR"
            )
        self.metadata: EngineMetadata = engine.metadata
        self._origin: Origin = engine.origin

    def __enter__(self) -> EngineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As of a bundle; nothing stays open."""

    @property
    def name(self) -> str:
        """Of the bundle that it was built from."""
        return self._origin.name

    @property
    def contract(self) -> Contract:
        """See `Contract`."""
        return self._origin.contract

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """The bundle's graph that it was built from, by name."""
        return {self._origin.artifact.name: self._origin.artifact}

    @property
    def model(self) -> dict[str, Any]:
        """The network and its weights, as in the bundle's manifest."""
        return dict(self._origin.model)

    @property
    def accuracy(self) -> dict[str, Any]:
        """`verdict`, and the `rows` and `data` of the gate that it rests on."""
        return dict(self._origin.accuracy)

    @property
    def verdict(self) -> str:
        """Of the accuracy gate: on the engine itself where it could run, else on its graph."""
        return str(self._origin.accuracy["verdict"])

    def golden(self) -> Golden:
        """The golden crops and the reference's outputs."""
        return self._origin.golden

    def read(self) -> Engine:
        """The engine with its plan, whose hash is checked."""
        return self._read(whole=True)

    def check(self) -> None:
        """Read the plan once: whatever is damaged raises."""
        self.read()

    def _read(self, whole: bool) -> Engine:
        try:
            return read_engine(self.path, whole, self._keys)
        except BackendError as error:
            raise BackendError(f"{error}. Copy it again or rebuild it: posert compile BUNDLE --output DIR") from error


def is_engine(path: object) -> bool:
    """Whether this names an engine file, by its suffix."""
    return isinstance(path, str | os.PathLike) and Path(path).suffix == SUFFIX
