"""A package of somebody else that adds operators, two passes and a target to the toolchain."""
