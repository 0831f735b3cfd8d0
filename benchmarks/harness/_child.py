"""What `environments.call` starts: imports nothing but the standard library before the function's own module."""

import importlib
import importlib.util
import json
import resource
import sys
import time
from pathlib import Path

sys.path.pop(0)  # this folder: its modules are posert.benchmarks.harness.*, and must not hide a tool's own


def main() -> None:
    root, function, request, result = sys.argv[1:]
    # The package is the folder it lies in, whatever that is called, and is not installed in foreign environments.
    spec = importlib.util.spec_from_file_location(
        "posert", Path(root, "__init__.py"), submodule_search_locations=[root]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["posert"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["posert"])
    module, name = function.split(":")
    wanted = getattr(importlib.import_module(module), name)
    arguments = json.loads(Path(request).read_text())
    start = time.perf_counter()
    value = wanted(**arguments)
    seconds = time.perf_counter() - start
    Path(result).write_text(json.dumps({"value": value, "seconds": seconds, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    """Peak of this process's resident memory. Linux's getrusage remembers what the parent had at the fork, so the
    kernel's own note of this program is read where there is one."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
