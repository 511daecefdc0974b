"""Packages as an installer leaves them: modules beside a folder of metadata with entry points."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

Lay = Callable[[str, str, Mapping[str, Mapping[str, str]]], None]
"""Installs a package of one module: its name, the text of the module, its entry points."""


def lay_package(folder: Path, name: str, source: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """
    Puts a package of one module into `folder`, which stands for `site-packages`.

    `source` is the text of the module, which is called as the package with underscores for hyphens; `entry_points` are
    groups with, by name, what the entry point is called in the module.
    """
    module = name.replace("-", "_")
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines: list[str] = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {module}:{value}" for key, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


def warned(action: Callable[[], object]) -> list[str]:
    """The texts of the warnings that `action` gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in caught]
