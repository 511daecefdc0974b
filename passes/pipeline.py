"""The compiler's pipeline as one readable list, and its passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from sta.passes.options import Options
from sta.passes.step import Kind, Step
from sta.spec import outside
from sta.spec.suggestion import suggestion

T = TypeVar("T")

PassFactory = Callable[[], type[ModulePass]]

_FOLDERS = {"torch": "torch-", "nm": "nm-", "sta": "sta-", "lowering": ""}
"""Folders with passes, and the prefix of each folder's passes."""

IMPORT = Step("import", Kind.CLOSE)
"""Step before the pipeline, which produces the first module; it is no pass."""
SUPPORTED = "torch-check-supported"
"""The step after which every operation is known: the module can be run."""
FIRST_INTEGER_STEP = "convert-torch-to-nm"
"""The step that converts a float module to integers."""


def pipeline(options: Options) -> tuple[Step, ...]:
    """
    Every step between the imported model and the last module, in order; steps that are not requested are not enabled.

    Raises:
        ValueError: a pass of another package that is asked for does not exist or cannot be used.
    """
    close, lossy, equal = Kind.CLOSE, Kind.LOSSY, Kind.EQUAL
    pattern, patterns = options.sparsity or (None, ())
    steps = (
        # On the imported module. Its function stays, up to the rounding of floats.
        Step("torch-fold-quantization", close),
        Step("torch-fold-constants", close),
        Step("torch-canonicalize-views", close),
        Step("torch-fold-batch-norm", close),
        Step("torch-decompose-convolutions", close),
        Step("torch-decompose-resampling", close),
        Step("torch-recognize-inverses", close),
        Step("torch-recognize-norms", close),
        Step("torch-recognize-gelu", close),
        Step("torch-recognize-rotations", close),
        Step("torch-round-attention", lossy, purpose="attention rounded at query, key and value only"),
        Step("torch-recognize-attention", close),
        Step("torch-fold-masks", close),
        Step("torch-decompose-elementwise", close),
        Step("torch-extract-prologue", close),
        Step("torch-decompose-movement", close),
        Step("torch-decompose-reductions", close),
        Step("torch-decompose-products", close),
        Step("torch-sink-channels", close),
        Step("torch-fuse-pointwise", close),
        Step("torch-canonicalize-arithmetic", close),
        Step("torch-broadcast-constants", close),
        Step("torch-fold-constants", close),
        Step("torch-canonicalize-views", close),
        Step(SUPPORTED, close),
        # From floats to integers.
        Step(
            "torch-prune",
            lossy,
            {"pattern": pattern, "patterns": patterns},
            purpose=", ".join([*([pattern] if pattern else []), *patterns]),
            enabled=options.sparsity is not None,
        ),
        Step(
            "torch-calibrate",
            close,
            {
                "methods": options.methods,
                "min_sqnr": options.min_sqnr,
                "int16_inputs": options.int16_inputs,
                "fast": options.fast,
            },
        ),
        Step("torch-round-weights", lossy, purpose="weights rounded for their inputs, where that is better in the end"),
        Step("torch-quantize", lossy, {"int16_inputs": options.int16_inputs}, purpose="values of 8 and 16 bits"),
        Step("torch-choose-softmax", close, {"mode": options.softmax, "bits": options.probability_bits}),
        Step(FIRST_INTEGER_STEP, lossy, purpose="weights of 8 bits, integers only"),
        # From the first integer module on, not a bit changes.
        Step("nm-sink-views", equal),
        Step("nm-choose-encoding", equal),
        Step("nm-fold-attention-layout", equal),
        Step("nm-fuse-epilogues", equal),
        Step("nm-fuse-norm-copies", equal),
        Step("nm-raise-norms", equal),
        Step("nm-map-into-rows", equal),
        Step("nm-plan-tiles", equal),
        Step("convert-nm-to-sta", equal),
        Step("sta-allocate", equal),
        Step("sta-synchronize", equal),
    )
    for name in options.passes:
        steps = _with_outside_pass(steps, name)
    return steps


def _names() -> tuple[str, ...]:
    return tuple(step.name for step in pipeline(Options()))


FLOAT_PIPELINE = _names()[: _names().index(SUPPORTED)]
"""The names of the steps on the imported module."""
INTEGER_PIPELINE = _names()[_names().index(FIRST_INTEGER_STEP) + 1 :]
"""The names of the steps on integer modules."""


def pass_of(step: Step) -> ModulePass:
    """The pass of a step, with its options."""
    # One of ours is found without a look at what other packages add.
    module = _modules().get(step.name)
    factory = _outside_factory(step.name) if module is None else _factory(step.name, module)
    return factory()(**step.options)


def pass_registry() -> dict[str, PassFactory]:
    """
    Every pass by its name, ours and those of other packages, imported on request: pass `foo-bar` of ours is class
    `FooBarPass`.
    """
    registry = {name: _factory(name, module) for name, module in _modules().items()}
    registry.update((name, _outside_factory(name)) for name in outside.names(outside.PASSES, _taken()))
    return registry


def dialect_taken_by(name: str) -> str | None:
    """The dialect of the modules that a pass of ours accepts; None for another pass."""
    return name.removeprefix("convert-").partition("-")[0] if name in _modules() else None


def dialect_made_by(name: str) -> str | None:
    """The dialect of the modules that a pass of ours produces; None for another pass."""
    return name.rpartition("-to-")[2].partition("-")[0] if name in _modules() else None


@cache
def _modules() -> dict[str, str]:
    """
    The module of every pass of ours, by the pass's name: `torch-foo-bar` is `torch/foo_bar.py`, `convert-x-to-y` is
    `lowering/convert_x_to_y.py`.
    """
    found: dict[str, str] = {}
    for folder, prefix in _FOLDERS.items():
        pattern = "[!_]*.py" if prefix else "convert_*.py"
        for path in sorted((Path(__file__).parent / folder).glob(pattern)):
            found[prefix + path.stem.replace("_", "-")] = f"sta.passes.{folder}.{path.stem}"
    return found


def _factory(name: str, module: str) -> PassFactory:
    def load() -> type[ModulePass]:
        return getattr(import_module(module), name.title().replace("-", "") + "Pass")

    return load


def _taken() -> set[str]:
    """The names that passes of other packages cannot have."""
    from xdsl.transforms import get_all_passes

    return {*_modules(), *get_all_passes()}


def _outside_factory(name: str) -> PassFactory:
    return lambda: _outside_pass(name)


def _outside_pass(name: str) -> type[ModulePass]:
    return _load_outside(name, _accept)


def _load_outside(name: str, accept: Callable[[str, object], T]) -> T:
    """The pass of another package as `accept` returns it. Raises ValueError if there is none, or it cannot be used."""
    found = None if name in _taken() else outside.load_one(outside.PASSES, name, accept)
    if found is None:
        hint = outside.similar_name(outside.PASSES, _taken(), name)
        raise ValueError(f"no package adds a pass {name!r} (entry points of the group {outside.PASSES.name}){hint}")
    return found


def _accept(name: str, added: object) -> type[ModulePass]:
    if re.fullmatch("[a-z]+(-[a-z0-9]+)*", name) is None:
        raise ValueError("the names of passes are words in lower case with hyphens between them")
    if not (isinstance(added, type) and issubclass(added, ModulePass)):
        raise ValueError(f"a subclass of xdsl.passes.ModulePass is expected, not {added!r}")
    if added.name != name:
        raise ValueError(f"the pass's name is {added.name!r}: it must be that of the entry point")
    return _blamed(added)


def _blamed(added: type[ModulePass]) -> type[ModulePass]:
    """The pass, whose failures name its package: whatever it raises, and a module that does not verify behind it."""

    def apply(self: ModulePass, ctx: Context, op: ModuleOp) -> None:
        refusal = outside.find_addition(outside.PASSES, added.name).refusal
        try:
            added.apply(self, ctx, op)
        except (Exception, SystemExit) as error:
            raise refusal(f"it failed ({type(error).__name__}: {error})") from error
        try:
            op.verify()
        except VerifyException as error:
            raise refusal(f"it leaves a module that does not verify: {error}") from error

    members = {"apply": apply, "__doc__": added.__doc__, "__module__": added.__module__}
    return type(added.__name__, (added,), members)


def _with_outside_pass(steps: tuple[Step, ...], name: str) -> tuple[Step, ...]:
    """
    The steps with a pass of another package inserted: after the last step named by its class attribute `after`, and
    after passes that were inserted there before. Its class attribute `kind` gives its permitted effect on numbers.
    """
    position, step = _load_outside(name, lambda name, added: _placed(steps, _accept(name, added)))
    return (*steps[:position], step, *steps[position:])


def _placed(steps: tuple[Step, ...], added: type[ModulePass]) -> tuple[int, Step]:
    """The step of another package's pass, and its position among the others. Raises ValueError if it has none."""
    after, kind = getattr(added, "after", None), getattr(added, "kind", None)
    names = [step.name for step in steps]
    if after is None:
        raise ValueError("it has no `after`, which says behind which pass it runs")
    if after not in names:
        hint = suggestion(str(after), names)
        raise ValueError(f"its `after` says behind which pass it runs, and {after!r} is none{hint}")
    if kind not in list(Kind):
        raise ValueError(f"its `kind` says what it does: {', '.join(Kind)}, and not {kind!r}")
    position = len(names) - names[::-1].index(after)
    kept, numbers = (Kind.EQUAL, "integers") if position > names.index(FIRST_INTEGER_STEP) else (Kind.CLOSE, "floats")
    if kind not in (kept, Kind.LOSSY):
        raise ValueError(f"it runs on {numbers}, behind {after}: its kind is {kept} or lossy, not {kind}")
    required = [one.name for one in fields(added) if one.default is MISSING and one.default_factory is MISSING]
    if required:
        raise ValueError(f"it runs without options here, and {', '.join(required)} must be given")
    while position < len(steps) and names[position] not in _modules():
        position += 1
    purpose = (added.__doc__ or "").strip().partition("\n")[0] if kind == Kind.LOSSY else ""
    return position, Step(added.name, Kind(kind), purpose=purpose)
