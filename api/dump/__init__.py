"""Dumps of IR: the module after each pass, with differences and an index."""
