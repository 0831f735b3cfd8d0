"""The PyTorch reference and the graphs made of it: ONNX and TorchScript."""

__all__: list[str] = []
