"""
The operators of PyTorch that the toolchain knows: one row each, by the job that they have in a model.

A row is the whole definition of an operator. Importer, dialect, support check, quantizers, ONNX rules, the page
docs/operators.md and the tests are derived from it. Another package adds rows with the entry points `sta.operators`.
"""
