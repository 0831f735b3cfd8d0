"""TensorRT and TensorRT-RTX engines: build them, run them, time them, keep them."""

__all__: list[str] = []
