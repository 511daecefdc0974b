"""
Measurements of the toolchain. A regular package, because xDSL's wheel brings one of the same name, which would take
precedence over a folder without this file.
"""
