"""An outside package that adds an operator, two passes and a target to the toolchain."""
