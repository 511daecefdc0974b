"""From operators of the `torch` dialect to integers: one file for each operator with structure, its rules included."""
