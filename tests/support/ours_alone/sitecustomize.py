"""
Hides what packages of this environment add to the toolchain: from the tests and from `make docs`.

Python imports this module at its start where PYTHONPATH has the folder. Packages in folders of tests stay visible.
"""

import site
from importlib import metadata
from pathlib import Path
from typing import Any, cast

FOLDERS = {Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())}
_every = metadata.entry_points


def _entry_points(**parameters: Any) -> metadata.EntryPoints:
    found = cast(metadata.EntryPoints, _every(**parameters))
    if not str(parameters.get("group", "")).startswith("sta."):
        return found
    return metadata.EntryPoints(entry for entry in found if not _is_installed(entry))


def _is_installed(entry: metadata.EntryPoint) -> bool:
    return entry.dist is not None and Path(str(entry.dist.locate_file(""))).resolve() in FOLDERS


metadata.entry_points = _entry_points
