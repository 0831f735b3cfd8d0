#!/usr/bin/env python3
"""What jetson-containers runs in the finished container: posert sees TensorRT, and the GPU where there is one."""

import json
import subprocess

said = subprocess.run(["posert", "doctor", "--json"], check=True, capture_output=True, text=True).stdout
states = {row["backend"]: row["state"] for row in json.loads(said)["backends"]}
print("posert doctor:", states)
assert states["tensorrt"] != "missing", "posert does not find TensorRT's Python package"
print("posert OK")
