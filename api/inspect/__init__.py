"""Inspection of programs: the debugger, comparison with the float model, look-up of modules by place."""
