"""From operators of the `torch` dialect to integers: one file an operator with structure, its rules included."""
