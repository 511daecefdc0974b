"""The HTML report of a program."""
