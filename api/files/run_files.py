"""The inputs and outputs of `sta run`: one run, a batch in one file, or a folder with a file for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sta.api.cli.argument_parser import UsageError, about
from sta.api.files.npz import read_arrays
from sta.api.files.output_file import check_output, write_arrays
from sta.backend.new_file import new_folder
from sta.runtime import Program, Result

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Runs:
    """The inputs of one or more runs, and the place of their outputs."""

    inputs: list[Arrays]
    output: Path | None
    """None: nowhere."""
    files: list[str]
    """In a folder, the name of each run's file; else empty."""
    stacked: bool = False
    """True if the runs come from one file, along a leading axis."""

    @property
    def is_single(self) -> bool:
        """True if there is one run, in a file of its own."""
        return not self.files and not self.stacked

    def name(self, index: int) -> str:
        """Beginning of a run's errors: in a folder its file, otherwise its number, from 1."""
        return self.files[index] if self.files else f"run {index + 1}"

    def write(self, results: Sequence[Result]) -> None:
        """Writes the outputs of all runs, if they go anywhere; raises OSError if that fails."""
        if self.output is None:
            return
        if self.files:
            new_folder(self.output)
            for name, result in zip(self.files, results, strict=True):
                write_arrays(self.output / name, result.outputs)
        elif self.stacked:
            names = results[0].outputs
            write_arrays(self.output, {name: np.stack([result.outputs[name] for result in results]) for name in names})
        else:
            write_arrays(self.output, results[0].outputs)


def check_files(program: Path, inputs: Path, output: Path | None) -> None:
    """
    Checks that the outputs can be written, before anything is run.

    Raises:
        ValueError: they cannot, or would replace something that the command reads.
        UsageError: inputs are a folder and the output is a file.
    """
    if output is None:
        return
    if not inputs.is_dir():
        check_output(output, program, inputs)
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"--inputs is a folder, --output must be one as well: {output} is a file")
    if output.exists() and output.samefile(inputs):
        raise UsageError("--inputs and --output are the same folder")
    if not output.exists():
        check_output(output, program)


def read_inputs(program: Program, inputs: Path) -> list[Arrays]:
    """Reads the inputs of all runs, for a command without outputs; raises the errors of ``read_runs``."""
    return read_runs(program, inputs, None).inputs


def read_sample(program: Program, inputs: Path, number: int | None) -> Arrays:
    """
    Reads the inputs of one run.

    Args:
        program: what they are for.
        inputs: a file, or a folder of files.
        number: which of several runs, from 1; None where there is but one.

    Raises:
        OSError, ValueError: as ``read_runs``; there is no such run, or several and no number.
    """
    if number is None and not inputs.is_dir():
        arrays = read_arrays(inputs)
        if not _is_batch(program, arrays):
            return arrays
    runs = read_inputs(program, inputs)
    if number is None and len(runs) > 1:
        raise ValueError(f"{inputs} holds the inputs of {len(runs):,} runs: choose one with --sample 1 to {len(runs)}")
    chosen = 1 if number is None else number
    if not 1 <= chosen <= len(runs):
        raise ValueError(f"{inputs}: there is no run {chosen}, they are 1 to {len(runs)}")
    return runs[chosen - 1]


def read_runs(program: Program, inputs: Path, output: Path | None) -> Runs:
    """
    Reads the inputs of all runs.

    Raises:
        OSError: a file cannot be opened.
        ValueError: a file is damaged, a folder holds no inputs or unsuitable ones, or a batch's arrays have different
            lengths.
    """
    if inputs.is_dir():
        files = sorted(path for path in inputs.iterdir() if path.suffix == ".npz")
        if not files:
            raise ValueError(f"{inputs} holds no .npz files")
        return Runs([_read_file(program, path) for path in files], output, [path.name for path in files])
    arrays = read_arrays(inputs)
    if not _is_batch(program, arrays):
        return Runs([arrays], output, [])
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        parts = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise ValueError(f"{inputs}: the inputs of a batch are equally many, got {parts}")
    count = next(iter(lengths.values()))
    if not count:
        raise ValueError(f"{inputs}: the batch is empty")
    return Runs([{name: array[index] for name, array in arrays.items()} for index in range(count)], output, [], True)


def _read_file(program: Program, path: Path) -> Arrays:
    """Reads a file of a folder; raises ValueError, naming the file, if the program does not accept its contents."""
    arrays = read_arrays(path)
    with about(str(path)):
        program.encode_inputs(arrays)
    return arrays


def _is_batch(program: Program, arrays: Mapping[str, NDArray[Any]]) -> bool:
    """True if every array has one leading axis more than the program's input."""
    shapes = {signature.name: signature.shape for signature in program.inputs}
    return (
        bool(arrays)
        and arrays.keys() == shapes.keys()
        and all(
            array.ndim == len(shapes[name]) + 1 and array.shape[1:] == shapes[name] for name, array in arrays.items()
        )
    )
