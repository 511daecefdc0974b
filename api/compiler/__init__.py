"""The compiler from a model to a program: options, the steps in order, checks between them."""
