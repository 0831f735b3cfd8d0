"""ONNX fp32 -> ONNX in another precision, with calibrated ranges whose provenance is written down."""
