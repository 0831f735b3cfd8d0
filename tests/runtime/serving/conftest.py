"""A real Triton server on the loopback: `make test-triton` installs it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def free_ports() -> Callable[[], tuple[int, int]]:
    """Two ports that nobody listens at."""

    def find() -> tuple[int, int]:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            return one.getsockname()[1], other.getsockname()[1]

    return find
