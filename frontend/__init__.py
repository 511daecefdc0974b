"""Models in: PyTorch, `.pt2` and ONNX files to a module of the `torch` dialect and a weight store."""
