"""Triton Inference Server: a bundle as one of its models, the server itself, and a client.

The modules import Triton's client library inside functions: it comes with `pip install "posert[triton]"`.
"""

from __future__ import annotations

from .client import PoseClient
from .repository import write_frames_model
from .server import Server

__all__ = ["PoseClient", "Server", "write_frames_model"]
