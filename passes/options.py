"""
The options of a compile, each defined once.

The keywords of `sta.compile`, the options of `sta compile` and docs/options.md are derived from the fields of
`Options`. A new option is an entry in `Keywords`, with the type for users, and a field of `Options`, with the
compiler's form.
"""

# ruff: noqa: RUF009 - `_option` and `_samples` make fields.

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack, cast

from sta.passes.option_values import (
    METHODS,
    PROBABILITY_BITS,
    SOFTMAX_MODES,
    Data,
    Sparsity,
    as_count,
    as_decibels,
    as_given,
    as_globs,
    as_methods,
    as_names,
    as_path,
    as_probability_bits,
    as_samples,
    as_softmax,
    as_sparsity,
    as_target,
    as_text,
    sparsity_part,
)
from sta.spec.suggestion import suggestion
from sta.spec.target import Target

T = TypeVar("T")

StageProgress = Callable[[str, float | None], None]
"""Progress callback: the stage, and its completed share (None if unknown)."""


class Keywords(TypedDict, total=False):
    """The keywords of `sta.compile`; `Options` explains each."""

    target: str | os.PathLike[str] | Target | None
    task: str | None
    seq: int | None
    batch: int | None
    sparsity: str | Sequence[str] | Mapping[str, str] | None
    calibration: Mapping[str, Any] | Iterable[Any] | str | os.PathLike[str] | None
    evaluation: Mapping[str, Any] | Iterable[Any] | str | os.PathLike[str] | None
    softmax: str
    probability_bits: int | str
    int16_inputs: Sequence[str]
    min_sqnr: float | None
    methods: Sequence[str]
    fast: bool
    passes: Sequence[str]
    check: bool
    dump_ir: str | os.PathLike[str] | None
    only: str | None
    progress: bool
    report: StageProgress


class Decision(NamedTuple):
    """The step of the pipeline that carries out an option: after it, the option comes too late."""

    step: str
    done: str
    """The words for an option that comes too late: "sparsity is given, and weights have been pruned"."""


@dataclass(frozen=True)
class Option:
    """An option of a compile, besides its value."""

    name: str
    default: Any
    """Default in the users' form."""
    accept: Callable[[Any], Any]
    """Converts a user's value to the compiler's form. Raises TypeError, ValueError, OSError."""
    help: str
    """One text for all: the command line, `help(sta.compile)` and the page."""
    command_line: Mapping[str, Any] | None
    """Arguments of argparse's `add_argument`; None for an option that only Python has."""
    without: Mapping[str, tuple[str, str]]
    """Flags of the command line, each with the value that it removes from the default, and its help."""
    decided: Decision | None
    is_samples: bool
    """True if it gives sample inputs of the model."""

    @property
    def flag(self) -> str:
        """Its spelling on the command line."""
        return "--" + self.name.replace("_", "-")


def _option(
    accept: Callable[[Any], T],
    default: Any,
    help: str,
    *,
    command_line: Mapping[str, Any] | None = None,
    without: Mapping[str, tuple[str, str]] | None = None,
    decided: Decision | None = None,
) -> T:
    return _field(accept, (default, accept, help, command_line, without or {}, decided, False))


def _samples(name: str, help: str, decided: Decision) -> Data:
    """Sample inputs, which the step of `decided` finds in its context under the option's name."""
    accept = partial(as_samples, name)
    return _field(accept, (None, accept, help, {"metavar": "FILE.npz|DIR"}, {}, decided, True))


def _field(accept: Callable[[Any], T], about: tuple[Any, ...]) -> T:
    return field(default_factory=lambda: accept(about[0]), metadata={"about": about})


def silent(stage: str, done: float | None) -> None:
    """Says nothing about progress."""


_FORMATS = Decision("torch-calibrate", "number formats are asked for, and have been chosen")
_SOFTMAX = Decision("torch-choose-softmax", "the softmax is given, and has been chosen")


@dataclass(frozen=True)
class Options:
    """The options of a compile, in the form in which the compiler uses them."""

    target: Target | None = _option(
        as_target,
        None,
        "the machine: a preset's name, a YAML file or, in Python, a Target (default: sta-base, or that of the dump)",
        command_line={"metavar": "NAME|FILE.yaml"},
    )
    task: str | None = _option(
        partial(as_text, "task"),
        None,
        "for a Hugging Face directory: what its model is for, such as feature-extraction, text-classification, "
        "fill-mask, text-generation (the logits of one step) or image-classification; a wrong one lists all (default: "
        "what its weights were trained for)",
        command_line={"metavar": "TASK"},
    )
    seq: int | None = _option(
        partial(as_count, "seq"),
        None,
        "for a Hugging Face directory: tokens of its texts, or samples of its recordings (default: 128 tokens, or "
        "fewer where the model has fewer positions; 16,000 samples)",
        command_line={"metavar": "N", "type": int},
    )
    batch: int | None = _option(
        partial(as_count, "batch"),
        None,
        "for a Hugging Face directory: the first axis of its inputs (default: 1)",
        command_line={"metavar": "N", "type": int},
    )
    sparsity: Sparsity | None = _option(
        as_sparsity,
        None,
        "keep the N largest of every M weights of each linear layer, or with GLOB= of those with a matching module "
        "path; can be given again, and the first match counts ('encoder.*.attention.*=2:4'); in Python a list, or a "
        "mapping from glob to pattern. Existing N:M zeros are found without it",
        command_line={"metavar": "[GLOB=]N:M", "type": sparsity_part, "action": "append"},
        decided=Decision("torch-prune", "sparsity is given, and weights have been pruned"),
    )
    calibration: Data = _samples(
        "calibration",
        "inputs by name, first axis the samples, for the ranges of activations: an .npz file, a folder of .npz or .npy "
        "files or, in Python, a mapping from name to array, or an iterable of samples or batches, such as a DataLoader",
        Decision("torch-calibrate", "calibration data are given, and nothing uses them"),
    )
    evaluation: Data = _samples(
        "evaluation",
        "inputs by name as for calibration, which does not see them: all of them measure the SQNR that judges methods "
        "and is reported (default: a held-out part of the calibration data)",
        Decision("torch-calibrate", "evaluation data are given, and number formats have been chosen"),
    )
    softmax: str = _option(
        as_softmax,
        "auto",
        "softmax over whole rows (row) or chunk by chunk (online); auto (default): rows where they fit the target",
        command_line={"metavar": "MODE", "choices": SOFTMAX_MODES},
        decided=_SOFTMAX,
    )
    probability_bits: str = _option(
        as_probability_bits,
        "auto",
        "width of the exponentials, 8 or 16; auto (default): 16 where calibration shows that attention needs them",
        command_line={"metavar": "BITS", "choices": PROBABILITY_BITS},
        decided=_SOFTMAX,
    )
    int16_inputs: tuple[str, ...] = _option(
        as_globs,
        (),
        "globs of module paths: 16 instead of 8 bits for the input of these linear layers, in twice the cycles",
        command_line={"metavar": "GLOB", "action": "append"},
        decided=Decision("torch-quantize", "16-bit inputs are asked for, and chosen"),
    )
    min_sqnr: float | None = _option(
        as_decibels,
        None,
        "decibels that the output must reach, against the model after pruning, on the evaluation samples or on "
        "held-out calibration samples; inputs of linear layers get 16 bits where necessary (default: 20 are aimed at; "
        "0: 8 bits for all)",
        command_line={"metavar": "DB", "type": float},
        decided=_FORMATS,
    )
    methods: tuple[str, ...] = _option(
        as_methods,
        METHODS,
        "calibration methods beyond the extremes of each value, each kept if it improves the output on samples "
        "held out: smoothing (SmoothQuant: outliers go into weights), ranges (by rounding error), weights (GPTQ)",
        without={
            "--no-smoothing": ("smoothing", "do not try SmoothQuant, which moves outliers into weights"),
            "--no-range-search": ("ranges", "do not try ranges smaller than the extremes"),
            "--no-weight-search": ("weights", "do not try GPTQ: round each weight to its nearest integer"),
        },
        decided=_FORMATS,
    )
    fast: bool = _option(
        bool,
        False,
        "calibrate ranges only: try none of the methods, and leave 16-bit inputs to --int16-inputs",
        command_line={"action": "store_true"},
        decided=Decision("torch-calibrate", "fast calibration is asked for, and number formats have been chosen"),
    )
    passes: tuple[str, ...] = _option(
        as_names,
        (),
        "passes of other packages to run as well, each after the pass that it names",
        command_line={"metavar": "NAME", "action": "append"},
    )
    check: bool = _option(
        bool,
        False,
        "run a sample after every pass; stop at the first whose bits differ, or that disturbs a float module",
        command_line={"action": "store_true"},
    )
    dump_ir: Path | None = _option(
        as_path,
        None,
        "directory for the IR after every pass that changed it, and the diffs; an earlier dump in it is replaced",
        command_line={"metavar": "DIR"},
    )
    only: str | None = _option(
        as_given,
        None,
        "limit the dump to module paths: 'encoder.layer.0.*'",
        command_line={"metavar": "GLOB"},
    )
    progress: bool = _option(bool, False, "show the present step on standard error, as the command does")
    report: StageProgress = _option(
        as_given, silent, "progress callback, called with the stage and its completed share"
    )

    def __post_init__(self) -> None:
        """Raises ValueError for options that contradict each other."""
        if self.fast and self.min_sqnr is not None:
            raise ValueError("fast calibration does not look for 16-bit inputs: leave out fast or min_sqnr")

    @property
    def samples(self) -> dict[str, Data]:
        """The sample inputs that are given, by the option that gives them."""
        found: dict[str, Data] = {name: getattr(self, name) for name, option in options().items() if option.is_samples}
        return {name: data for name, data in found.items() if data is not None}

    @staticmethod
    def of(**keywords: Unpack[Keywords]) -> Options:
        """
        Options for the given keywords.

        Raises:
            TypeError: an unknown keyword, or a value of a wrong type.
            ValueError: a value that is not accepted.
            OSError: a file that cannot be read.
        """
        known = options()
        for name in keywords:
            if name not in known:
                raise TypeError(f"compile() got an unexpected keyword argument {name!r}{suggestion(name, known)}")
        # In the order of the fields, whatever the caller's order is: the first error is always the same.
        given = cast("Mapping[str, Any]", keywords)
        return Options(**{name: known[name].accept(given[name]) for name in known if name in given})


def options() -> dict[str, Option]:
    """All options by name."""
    return {one.name: Option(one.name, *one.metadata["about"]) for one in fields(Options)}
