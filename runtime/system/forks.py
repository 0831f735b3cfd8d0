"""What a process opened cannot be used after os.fork(): in the child the threads that serve it are not there."""

from __future__ import annotations

import ctypes
import os
import weakref

from ..errors import BackendError


class OfOneProcess:
    """Something that belongs to the process that made it, such as an open engine.

    In a child made by os.fork() it is never destroyed either: a destructor would wait for threads that are not there,
    and a worker of a web server would hang when it exits.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        _made.add(self)

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that made it."""
        return self._process != os.getpid()

    def check_process(self) -> None:
        """Raise BackendError in a child of the process that made it."""
        if self._process != os.getpid():
            raise BackendError(
                f"this process was forked from process {self._process}, which opened the network: threads of the "
                "library are not there. Open the PoseEstimator in this process, after the fork (in a web server, in "
                'each worker), or start processes with multiprocessing.get_context("spawn")'
            )


_made: weakref.WeakSet[OfOneProcess] = weakref.WeakSet()


def _keep() -> None:
    for one in list(_made):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_keep)
