"""Interpreters of the dialects, on the arithmetic of `sta.spec`."""
