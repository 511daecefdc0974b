"""The command line, and everything that combines rooms: compiling, dumps, inspection, reports."""
