"""Errors of passes."""


class CompileError(ValueError):
    """A model that cannot be compiled as asked; the message names the layer, the cause and the remedy."""
