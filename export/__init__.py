"""Checkpoint -> reference model -> ONNX / TorchScript -> bundle. The only folder that needs torch."""
