"""The errors of the front end, which the passes share."""

from sta.dialect.ir.model_errors import ModelError, UnsupportedOperation, UnsupportedOperationsError

__all__ = ["ModelError", "UnsupportedOperation", "UnsupportedOperationsError"]
