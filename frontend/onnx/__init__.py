"""Models in the form of ONNX."""
