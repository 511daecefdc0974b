"""
Linear layers named by globs over module paths: how a user says which layers an option is about.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase


def matches(path: str, globs: Iterable[str]) -> bool:
    """Whether a module path matches one of the globs."""
    return any(fnmatchcase(path, glob) for glob in globs)


def check_globs(globs: Iterable[str], paths: Sequence[str]) -> None:
    """Raise ValueError, with the closest of `paths`, for the first glob that matches none of them."""
    for glob in globs:
        if any(fnmatchcase(path, glob) for path in paths):
            continue
        close = difflib.get_close_matches(glob, paths, n=1, cutoff=0.3)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no linear layer has a module path that matches {glob!r}{hint}")
