"""Linear layers named by globs over module paths, for options about layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from sta.spec.suggestion import suggestion


def matches(path: str, globs: Iterable[str]) -> bool:
    """True if a module path matches one of the globs."""
    return any(fnmatchcase(path, glob) for glob in globs)


def check_globs(globs: Iterable[str], paths: Sequence[str]) -> None:
    """Raises ValueError, with the closest of `paths`, for the first glob that matches none of them."""
    for glob in globs:
        if any(fnmatchcase(path, glob) for path in paths):
            continue
        # A glob is often a part of a path.
        hint = suggestion(glob, paths, 0.3)
        raise ValueError(f"no linear layer has a module path that matches {glob!r}{hint}")
