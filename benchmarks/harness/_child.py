"""What `environments.call` starts: imports nothing but the standard library before the function's own module."""

import importlib
import importlib.util
import json
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
    peak_mb = importlib.import_module("posert.runtime.bench.memory").peak_mb()
    Path(result).write_text(json.dumps({"value": value, "seconds": seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
