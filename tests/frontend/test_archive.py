"""A `.pt2` file of unknown origin runs no code of its own."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sta.frontend.errors import ModelError
from sta.frontend.model import import_model

Change = Callable[[str, bytes], bytes]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def pickled(path: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Touch(path), buffer)
    return buffer.getvalue()


def exported(path: Path, dynamic: bool = False) -> None:
    sizes = ({0: torch.export.Dim("rows")},) if dynamic else None
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),), dynamic_shapes=sizes)
    torch.export.save(program, path)


def changed(source: Path, path: Path, change: Change, added: dict[str, bytes] | None = None) -> Path:
    """`source` with other members, and some more."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as result:
        for name in archive.namelist():
            result.writestr(name, change(name, archive.read(name)))
        root = archive.namelist()[0].split("/")[0]
        for name, content in (added or {}).items():
            result.writestr(f"{root}/{name}", content)
    return path


def test_an_archive_written_again_is_the_same(tmp_path: Path) -> None:
    exported(tmp_path / "model.pt2")
    path = changed(tmp_path / "model.pt2", tmp_path / "again.pt2", lambda name, content: content)
    assert list(import_model(path).example_inputs) == ["input"]


def test_nothing_but_tensors_is_unpickled(tmp_path: Path) -> None:
    exported(tmp_path / "model.pt2")
    made = tmp_path / "made"

    def example_inputs(name: str, content: bytes) -> bytes:
        return pickled(made) if name.endswith("sample_inputs/model.pt") else content

    def weights(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickled(made) if "weights/weight_" in name else content

    for change in (example_inputs, weights):
        path = changed(tmp_path / "model.pt2", tmp_path / "bad.pt2", change)
        with pytest.raises(ModelError, match=r"cannot load .*bad\.pt2"):
            import_model(path)
        assert not made.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data/constants/custom_obj_0", "holds a Python object, .*custom_obj_0"),
        ("data/constants/opaque_obj_0", "holds a Python object, .*opaque_obj_0"),
        ("data/aotinductor/model/model.so", r"holds compiled code, .*model\.so"),
    ],
)
def test_objects_and_compiled_code_are_refused(name: str, message: str, tmp_path: Path) -> None:
    exported(tmp_path / "model.pt2")
    path = changed(tmp_path / "model.pt2", tmp_path / "bad.pt2", lambda name, content: content, {name: b"0"})
    with pytest.raises(ModelError, match=message):
        import_model(path)


def test_expressions_of_sizes_are_nothing_else(tmp_path: Path) -> None:
    exported(tmp_path / "model.pt2", dynamic=True)
    with pytest.raises(ModelError, match="dynamic sizes"):
        import_model(tmp_path / "model.pt2")
    made = tmp_path / "made"

    def expression(name: str, content: bytes) -> bytes:
        return content.replace(b'"expr_str": "', f"\"expr_str\": \"__import__('os').mkdir('{made}') or ".encode())

    path = changed(tmp_path / "model.pt2", tmp_path / "bad.pt2", expression)
    with pytest.raises(ModelError, match="no expression of sizes"):
        import_model(path)
    assert not made.exists()
