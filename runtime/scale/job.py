"""`posert annotate --ray`: the plan, the journal and the files of one machine, with workers on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..annotation.devices import choose
from ..annotation.job import Limits, run_job
from ..annotation.settings import Settings
from ..annotation.sources import Found
from ..bundle.archive import Bundle
from ..errors import PosertError
from ..selection import Selection
from ..system.machine import processors
from .cluster import ENVIRONMENT, Cluster, Parcel, load_ray
from .crew import RayCrew


def choose_there(cluster: Cluster, bundle: str, backend: str = "auto", precision: str = "auto") -> Selection:
    """The backend and precision that a worker of the cluster selects; every worker runs the same.

    Raises BackendError: nothing can run there. Raises InputError: the bundle cannot be read.
    """
    with cluster.connected():
        parcel = Parcel.of(Settings(bundle, backend, precision))
        selected: Selection = _there(cluster, _selected, parcel, cluster.gpus > 0)
        return selected


def annotate_sources(
    found: Sequence[Found],
    settings: Settings,
    cluster: Cluster,
    output: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    show: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """As `posert.runtime.annotation.annotate`, on a Ray cluster. Its files are those of one machine, byte by byte.

    Args:
        found: the sources: paths that all machines have in common, or URLs.
        settings: how. The bundle and the detector are sent to the workers; box files must be on a shared disk.
        cluster: where.
        output: a folder on a shared disk, or the URL of one.
        limits, say, show: as there.

    Raises: as there.
    """
    with cluster.connected():
        parcel = Parcel.of(settings)
        software = _there(cluster, _software, parcel)
        fingerprint = partial(settings.fingerprint, software)
        crew = partial(RayCrew, cluster, parcel, software)
        return run_job(found, settings, fingerprint, crew, output, limits, say=say, show=show)


def _there(cluster: Cluster, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on a machine that can have a worker."""
    ray = load_ray()
    task = ray.remote(function).options(**{**cluster.options, "runtime_env": {"env_vars": ENVIRONMENT}})
    try:
        return ray.get(task.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PosertError):
            raise error.cause from error
        raise


def _selected(parcel: Parcel, gpu: bool) -> Selection:
    settings = parcel.unpacked()
    with Bundle(settings.bundle) as bundle:
        device = "cuda:0" if gpu else f"cpu:{processors()[0]}"
        return choose(bundle, settings.backend, settings.precision, device)[0]


def _software(parcel: Parcel) -> dict[str, Any]:
    return parcel.settings.software()
