"""Find Triton Inference Server on this machine, and run it on a model repository.

The server is `tritonserver` on the PATH, as in NVIDIA's containers, or that of the package nvidia-pytriton. The latter
has the Python backend only, as a program for each version of Python; the server wants it beside the backend's library.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from ..errors import ServerError
from ..system.files import TemporaryFolder

INSTALL = "pip install --no-deps nvidia-pytriton==0.7.0"
"""Without what it depends on: it asks for NumPy 1, which the server itself does not need."""
_STUB = "triton_python_backend_stub"
_GRACE = 5
"""Seconds that requests have to end when the server is told to; it waits as long for HTTP clients that do not leave."""
# Becomes the server. Before, it asks the kernel for a SIGTERM (15) when its parent ends (1: PR_SET_PDEATHSIG). A parent
# that is killed would leave a server behind, which holds the ports.
_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Installation:
    """A Triton server on this machine.

    Attributes:
        binary: the program.
        package: folder of the package that it comes from; None for one on the PATH, which finds its backends itself.
    """

    binary: Path
    package: Path | None = None


def find_server() -> Installation:
    """The server that is installed. Raises ServerError: none is, with the line that installs one."""
    if found := shutil.which("tritonserver"):
        return Installation(Path(found))
    spec = find_spec("pytriton")  # it is not imported: that needs what INSTALL leaves out
    for folder in spec.submodule_search_locations or () if spec else ():
        binary = Path(folder) / "tritonserver" / "bin" / "tritonserver"
        if binary.is_file():
            return Installation(binary, Path(folder))
    raise ServerError(
        f"Triton Inference Server is not installed. For the Python backend on Linux: {INSTALL}. For all backends run "
        "NVIDIA's container nvcr.io/nvidia/tritonserver on what `posert export triton` writes"
    )


class Server:
    """A Triton server that runs while the block does, and on Linux no longer than the thread that opened it.

    Args:
        repository: folder of models. All of them have to load.
        host: address to listen at.
        http_port, grpc_port: of the two protocols; there is none for metrics.
        log: file for what the server says; None: a temporary one, whose end an error quotes.
        patience: seconds until it must be ready.

    Raises:
        ServerError: no server is installed, or it does not become ready; the message holds its last lines.
    """

    def __init__(
        self,
        repository: str | os.PathLike[str],
        *,
        host: str = "127.0.0.1",
        http_port: int = 8000,
        grpc_port: int = 8001,
        log: str | os.PathLike[str] | None = None,
        patience: float = 120,
    ) -> None:
        self.host, self.http_port, self.grpc_port = host, http_port, grpc_port
        self._installation = find_server()
        self._repository, self._patience = Path(repository), patience
        self._log_path, self._id = log, f"posert-{uuid.uuid4()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        with contextlib.ExitStack() as stack:
            self._log: IO[bytes] = stack.enter_context(
                open(self._log_path, "w+b") if self._log_path else tempfile.TemporaryFile()
            )
            backends = Path(stack.enter_context(TemporaryFolder("triton")))
            stack.callback(self._stop)
            options = ["--disable-auto-complete-config", "--allow-metrics=false"]
            options.append(f"--exit-timeout-secs={_GRACE}")
            options += [f"--model-repository={self._repository}", f"--id={self._id}"]
            options += [f"--{name}-address={self.host}" for name in ("http", "grpc")]
            options += [f"--http-port={self.http_port}", f"--grpc-port={self.grpc_port}"]
            if package := self._installation.package:
                _add_stub(package, backends)
                options.append(f"--backend-directory={backends}")
            command = [str(self._installation.binary), *options]
            if sys.platform == "linux":
                command = [sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid()), *command]
            self._process = subprocess.Popen(
                command,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,  # the keyboard's interrupt comes to us, and we end it
            )
            self._wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """Of the server's process; its models have processes of their own below it."""
        assert self._process is not None, "it runs inside of the block"
        return self._process.pid

    def wait(self) -> int:
        """Wait until the server ends by itself; its exit status."""
        assert self._process is not None, "it runs inside of the block"
        return self._process.wait()

    def tail(self, lines: int = 12) -> str:
        """The last lines that the server said."""
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in said if line.strip() and line[0] not in "|+"][-lines:])

    def _environment(self) -> dict[str, str]:
        """Ours, with the folders where the model finds posert and where the server finds its libraries."""
        folders = [str(Path(p).absolute()) for p in sys.path if p and Path(p).is_dir()]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        if package := self._installation.package:
            libraries = [str(package.parent / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR") or ""]
            env["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, env.get("LD_LIBRARY_PATH", "")]).rstrip(os.pathsep)
        return env

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            if (status := self._process.poll()) is not None:
                raise ServerError(f"Triton ended with status {status} before it was ready. It said:\n{self.tail()}")
            if self._answers():
                return
            time.sleep(0.05)
        raise ServerError(f"Triton was not ready after {self._patience:g} s. It said:\n{self.tail()}")

    def _answers(self) -> bool:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        connection = http.client.HTTPConnection(host, self.http_port, timeout=5)
        try:
            connection.request("GET", "/v2")
            if json.load(connection.getresponse())["name"] != self._id:
                return False  # somebody else's, at this port before us
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return False
        finally:
            connection.close()

    def _stop(self) -> None:
        """End the server, its models' processes included."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()  # it answers what it has begun
        try:
            process.wait(timeout=2 * _GRACE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _add_stub(package: Path, backends: Path) -> None:
    """A folder of backends in which the Python backend has the program for this version of Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = package / "tritonserver" / "python_backend_stubs" / version / _STUB
    if not stub.is_file():
        known = sorted(path.name for path in stub.parents[1].iterdir())
        raise ServerError(f"the Triton of nvidia-pytriton runs models in Python {', '.join(known)}, not {version}")
    shutil.copytree(package / "tritonserver" / "backends" / "python", backends / "python")
    shutil.copy(stub, backends / "python" / _STUB)
