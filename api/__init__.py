"""The command line, and everything that takes the rooms together: compiling, dumps, inspection, reports."""
