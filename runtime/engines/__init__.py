"""TensorRT and TensorRT-RTX engines: build them, run them, time them, keep them."""
