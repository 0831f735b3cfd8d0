"""Run the golden crop through the module beside this file and check what it gives: python run.py"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

here = Path(__file__).parent
(path,) = here.glob("*.pt")
golden = np.load(here / "golden.npz")
extra = {"contract.json": ""}
module = torch.jit.load(path, map_location="cpu", _extra_files=extra)
joints = len(json.loads(extra["contract.json"])["contract"]["keypoints"])
with torch.inference_mode():
    found = module(torch.from_numpy(golden["input"]))
found = [found] if isinstance(found, torch.Tensor) else list(found)
expected = [golden[f"outputs_{i}"] for i in range(len(found))]
error = max(np.linalg.norm(a.numpy() - b) / np.linalg.norm(b) for a, b in zip(found, expected, strict=True))
print(f"{path.name}: {joints} joints, relative error {error:.5f}; {golden['error']:.5f} are allowed")
sys.exit(int(not error <= golden["error"]))
