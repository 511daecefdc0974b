"""A look into programs: the debugger, comparison with the float model, from a place to its module."""
