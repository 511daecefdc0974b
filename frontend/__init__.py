"""Import of PyTorch, `.pt2` and ONNX models into a module of the `torch` dialect and a weight store."""
