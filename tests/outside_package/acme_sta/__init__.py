"""A package of somebody else that adds an operator, two passes and a target to the toolchain."""
