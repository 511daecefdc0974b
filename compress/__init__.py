"""Models made smaller in PyTorch: the quantizer for PT2E."""
