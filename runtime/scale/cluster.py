"""A Ray cluster: the connection, what its workers are, and the files that they get."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..annotation.settings import Settings
from ..errors import InputError, PosertError
from ..system.files import atomic_write, cache_folder, sha256

LOCAL = "local"
ENVIRONMENT = {"OPENCV_FFMPEG_LOGLEVEL": "-8"}
"""Of the workers: FFmpeg's remarks on damaged files are left out."""


@dataclass(frozen=True)
class Cluster:
    """Where workers run, and how large they are.

    Attributes:
        address: of the cluster, such as "auto" (that of this machine), HOST:PORT or ray://HOST:10001; "local" starts
            one on this machine and ends it with the run.
        workers: how many; None: as many as the cluster has room for at the start.
        cpus: processors of a worker, and threads of its network.
        gpus: of a worker; a part of one, such as 0.5, lets workers share it.
    """

    address: str = LOCAL
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.gpus < 0 or (self.workers is not None and self.workers < 1):
            raise InputError(f"{self}: expected at least one worker, of one processor or more")

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Connect to the cluster, unless this process is connected already.

        Raises PosertError: Ray is not installed, or the cluster does not answer.
        """
        ray = load_ray()
        if ray.is_initialized():
            yield
            return
        # a cluster that runs takes no options of its start; without an address Ray might join one of this machine
        new = {"include_dashboard": False} if self.address == LOCAL else {}
        try:
            ray.init(self.address, log_to_driver=False, logging_level="ERROR", **new)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise PosertError(f"--ray {self.address}: cannot connect to a Ray cluster: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()

    def room(self) -> int:
        """How many workers there are to be."""
        if self.workers is not None:
            return self.workers
        has = load_ray().cluster_resources()
        places = [has.get("CPU", 0) // self.cpus]
        if self.gpus:
            places.append(has.get("GPU", 0) // self.gpus)
        return max(1, int(min(places)))

    @property
    def options(self) -> dict[str, Any]:
        """Of an actor."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "runtime_env": {"env_vars": ENVIRONMENT}}


def load_ray() -> Any:
    """The package ray. Raises PosertError: it is not installed."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise PosertError('many machines need the package ray: pip install "posert[ray]"') from error
    return ray


@dataclass(frozen=True)
class Parcel:
    """Files that every worker needs, as bytes: the bundle and the detector need not lie on a shared disk."""

    settings: Settings
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, settings: Settings) -> Parcel:
        """The files of settings. Raises InputError: one cannot be read."""
        paths = [settings.bundle] + ([settings.detector] if settings.detector else [])
        try:
            return cls(settings, {path: Path(path).read_bytes() for path in paths})
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}") from error

    def unpacked(self) -> Settings:
        """The settings with paths of this machine; a file that is there from another worker is not written again."""
        paths = {path: _unpacked(path, data) for path, data in self.files.items()}
        detector = self.settings.detector
        return replace(
            self.settings,
            bundle=paths[self.settings.bundle],
            detector=paths[detector] if detector else None,
        )


def _unpacked(path: str, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    file = cache_folder() / "workers" / digest[:16] / Path(path).name
    if not file.is_file() or sha256(file) != digest:
        with atomic_write(file) as out:
            out.write(data)
    return str(file)
