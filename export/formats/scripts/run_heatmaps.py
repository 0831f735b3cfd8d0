"""Run the golden crop through the graph beside this file and check what it gives: python run.py [openvino]"""

import sys
from pathlib import Path

import numpy as np

here = Path(__file__).parent
(graph,) = [*here.rglob("*.onnx"), *here.rglob("*.xml")]
golden = np.load(here / "golden.npz")
if "openvino" in sys.argv or graph.suffix == ".xml":
    import openvino as ov

    # Left to itself OpenVINO computes in bfloat16 where the CPU can: three digits.
    model = ov.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = list(model([golden["input"]]).values())
else:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1" if "int8_gpu" in graph.name else "0")
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: golden["input"]})
expected = [golden[f"outputs_{i}"] for i in range(len(found))]
error = max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected, strict=True))
print(f"{graph.name}: relative error of the outputs {error:.5f}; {golden['error']:.5f} are allowed")
sys.exit(int(not error <= golden["error"]))
