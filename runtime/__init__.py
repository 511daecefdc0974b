"""Loads and runs ``.sta`` containers. Needs NumPy and nothing else."""

from sta.runtime.analysis.races import RaceError
from sta.runtime.engines import EnginesDifferError
from sta.runtime.errors import ProgramError
from sta.runtime.program import Program, Result

__all__ = ["EnginesDifferError", "Program", "ProgramError", "RaceError", "Result", "load"]

load = Program.load
"""Reads a program from a ``.sta`` file or its bytes; see ``Program.load``."""
