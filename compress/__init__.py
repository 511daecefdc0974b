"""Compression of models in PyTorch: the quantizer for PT2E."""
