"""Files that appear complete or not at all, and errors that name the caller's path."""

import errno
import os
from pathlib import Path

import pytest

from sta.backend.new_file import new_file, new_files, new_folder


def write(path: Path, data: bytes = b"new") -> None:
    with new_file(path) as file:
        file.write(data)


def test_a_file_takes_its_name_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with new_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), new_file(path):
        _ = 1 / 0
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_long_name(tmp_path: Path) -> None:
    write(tmp_path / ("n" * 255))
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_errors_name_the_given_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"kept")
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    paths = {"missing/x": FileNotFoundError, "file/x": NotADirectoryError, ".": IsADirectoryError, "pipe": OSError}
    for path, kind in paths.items():
        with pytest.raises(kind) as refused:
            write(Path(path))
        assert refused.value.filename == path
    with pytest.raises(OSError, match="n" * 256):
        write(Path("n" * 256))
    assert sorted(os.listdir()) == ["file", "loop", "pipe"]


def test_a_full_disk_names_the_given_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as refused, new_file(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert refused.value.filename == os.fspath(tmp_path / "file")
    with pytest.raises(FileNotFoundError) as other, new_file(tmp_path / "file"):
        open(tmp_path / "other")
    assert other.value.filename == os.fspath(tmp_path / "other")
    assert list(tmp_path.iterdir()) == []


def test_files_that_belong_together_appear_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with new_files():
        write(tmp_path / "a")
        with new_files():
            write(tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == b"old"
        assert not (tmp_path / "b").exists()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new", "b": b"new"}


def write_two_and_fail(folder: Path) -> None:
    with new_files():
        write(folder / "a")
        new_folder(folder / "made")
        write(folder / "made" / "b")
        write(folder / "missing" / "c")


def test_of_files_that_belong_together_none_appears_if_one_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileNotFoundError) as refused:
        write_two_and_fail(tmp_path)
    assert refused.value.filename == os.fspath(tmp_path / "missing" / "c")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}
    # What is written afterwards waits for nothing.
    write(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"new"
