"""Send the golden crop to the server and check what the network gives: python smoke.py [localhost:8001]"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

here = Path(__file__).parent
(model,) = [folder.name for folder in (here / "models").iterdir()]
golden = np.load(here / "golden.npz")
client = triton.InferenceServerClient(sys.argv[1] if len(sys.argv) > 1 else "localhost:8001")
about = client.get_model_metadata(model)
given = triton.InferInput(about.inputs[0].name, golden["input"].shape, about.inputs[0].datatype)
given.set_data_from_numpy(golden["input"])
answer = client.infer(model, [given], client_timeout=60)
expected = [golden[f"outputs_{i}"] for i in range(len(about.outputs))]
found = [answer.as_numpy(output.name) for output in about.outputs]
error = max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected, strict=True))
print(f"{model}: relative error of the outputs {error:.5f}; {golden['error']:.5f} are allowed")
sys.exit(int(not error <= golden["error"]))
