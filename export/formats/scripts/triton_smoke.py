"""Send the golden input to the server and check the joints: python smoke.py [localhost:8001]"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

here = Path(__file__).parent
(model,) = [folder.name for folder in (here / "models").iterdir()]
golden = np.load(here / "golden.npz")
client = triton.InferenceServerClient(sys.argv[1] if len(sys.argv) > 1 else "localhost:8001")
inputs = []
for wanted in client.get_model_metadata(model).inputs:
    array = golden[wanted.name if wanted.name in golden else "input"]
    inputs.append(triton.InferInput(wanted.name, array.shape, wanted.datatype))
    inputs[-1].set_data_from_numpy(array)
found = client.infer(model, inputs, client_timeout=60).as_numpy("keypoints").reshape(golden["keypoints"].shape)
moved = np.linalg.norm(found[..., :2] - golden["keypoints"][..., :2], axis=2)[golden["sure"]].max()
print(f"{model}: joints moved by up to {moved:.3f} px of the crop; {golden['tolerance']:.3f} are allowed")
sys.exit(int(not moved <= golden["tolerance"]))
