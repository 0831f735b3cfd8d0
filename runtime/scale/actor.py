"""A worker on some machine of the cluster: a process of Ray that annotates shards, one at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..annotation.crew import DECODERS
from ..annotation.output import make_parts
from ..annotation.shard import Shard
from ..annotation.work import Annotator, Counts
from ..annotation.worker import outcome
from ..errors import PosertError
from ..system.files import TemporaryFolder
from ..system.storage import is_url
from .cluster import Cluster, Parcel, load_ray


class Worker:
    """What the driver calls, from two threads: one annotates, the other tells how far that is.

    Args:
        parcel: settings and their files.
        cluster: the size of the worker.
        target: path or URL of the results.
        work: folder for those that are not complete, on the disk of the target; of a URL it is not used.
    """

    def __init__(self, parcel: Parcel, cluster: Cluster, target: str, work: str) -> None:
        self._parcel, self._cluster, self._target = parcel, cluster, target
        self._temporary = TemporaryFolder("work") if is_url(target) else None
        self._work = Path(self._temporary.name if self._temporary else work)
        self._counts = Counts()

    def start(self, software: dict[str, Any]) -> dict[str, Any]:
        """Open the networks; returns `ready` with the node, or `unfit` with the reason why it cannot work here.

        Args:
            software: that all workers must have.
        """
        import cv2

        node = load_ray().get_runtime_context().get_node_id()
        try:
            settings = self._parcel.unpacked()
            here = settings.software()
            if other := [f"{k} {here[k]} here, {v} in this run" for k, v in software.items() if here[k] != v]:
                return {"unfit": f"other software than the other workers have: {'; '.join(other)}"}
            threads = None if self._cluster.gpus else self._cluster.cpus
            if threads:
                cv2.setNumThreads(threads)
            self._annotator = Annotator(settings, threads, min(DECODERS, self._cluster.cpus))
        except PosertError as error:
            return {"unfit": str(error)}
        if self._temporary:
            make_parts(self._work)
        return {"ready": node, "host": os.uname().nodename, "pid": os.getpid()}

    def annotate(self, values: dict[str, Any]) -> dict[str, Any]:
        """Annotate a shard; returns `done`, `failed` or `broken`, as the worker of one machine."""
        shard = Shard.from_json(values)
        return outcome(self._annotator, shard, self._work, self._target, self._report)

    def counts(self) -> dict[str, int]:
        """Frames and people of the shard so far."""
        return {"frames": self._counts.frames, "people": self._counts.people}

    def _report(self, counts: Counts) -> None:
        self._counts = counts
