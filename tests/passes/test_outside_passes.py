"""Passes of other packages: one that cannot be used, or that fails, is one message that names its package."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sta
from sta.api.compiler.bit_check import CheckError
from sta.passes.options import Options
from sta.passes.pipeline import pass_registry, pipeline
from sta.spec.outside import OutsideError
from tests.support.packages import Lay, warned

PASSES = """
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sta.dialect import torch


class Good(ModulePass):
    name = "bolt-good"
    after = "torch-check-supported"
    kind = "close"

    def apply(self, ctx, op):
        pass


class Lost(Good):
    name = "bolt-lost"
    after = "torch-chek-supported"


class Placeless(Good):
    name = "bolt-placeless"
    after = None


class Late(Good):
    name = "bolt-late"
    after = "nm-sink-views"


class Kindless(Good):
    name = "bolt-kindless"
    kind = "exact"


class Misnamed(Good):
    name = "bolt-other"


@dataclass(frozen=True)
class Asks(Good):
    name: ClassVar = "bolt-asks"
    least: int


class Raises(Good):
    name = "bolt-raises"

    def apply(self, ctx, op):
        raise ZeroDivisionError("of my own")


class Refuses(Good):
    name = "bolt-refuses"

    def apply(self, ctx, op):
        raise ValueError("no layer of width 7")


class Exits(Good):
    name = "bolt-exits"

    def apply(self, ctx, op):
        raise SystemExit(3)


class Breaks(Good):
    name = "bolt-breaks"

    def apply(self, ctx, op):
        for operation in op.walk():
            if isinstance(operation, torch.LinearOp):
                operation.operands = [operation.input, operation.input, operation.bias]


class Changes(Good):
    name = "bolt-changes"

    def apply(self, ctx, op):
        for operation in list(op.walk()):
            if isinstance(operation, torch.LinearOp):
                none = torch.ConstantNoneOp()
                operation.parent.insert_op_before(none, operation)
                operation.operands = [operation.input, operation.weight, none.results[0]]


SUNK = type("Sunk", (Good,), {"name": "nm-sink-views"})
MODULE = ModuleOp
"""


def compiled(name: str, **keywords: Any) -> sta.Program:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - its stub lacks a type
    x = np.random.default_rng(0).standard_normal((2, 8), np.float32)
    return sta.compile(nn.Linear(8, 4).eval(), {"input": x}, calibration={"input": x[None]}, passes=[name], **keywords)


BAD = {
    "lost": ("Lost", "its `after` says behind which pass it runs, and 'torch-chek-supported' is none; did you mean"),
    "placeless": ("Placeless", "its `after` says behind which pass it runs, and None is none"),
    "late": ("Late", "it runs on integers, behind nm-sink-views: its kind is equal or lossy, not close"),
    "kindless": ("Kindless", "its `kind` says what it does: equal, close, lossy, and not 'exact'"),
    "asks": ("Asks", "it runs without options here, and least must be given"),
    "misnamed": ("Misnamed", "the pass's name is 'bolt-other': it must be that of the entry point"),
    "module": ("MODULE", "a subclass of xdsl.passes.ModulePass is expected, not <class"),
    "missing": ("Missing", "loading bolt_sta:Missing failed (AttributeError: "),
    "raises": ("Raises", "it failed (ZeroDivisionError: of my own)"),
    "refuses": ("Refuses", "it failed (ValueError: no layer of width 7)"),
    "exits": ("Exits", "it failed (SystemExit: 3)"),
    "breaks": ("Breaks", "it leaves a module that does not verify: "),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_pass_is_one_error_that_names_its_package_and_the_rest_works(lay: Lay, case: str) -> None:
    value, reason = BAD[case]
    lay("bolt-sta", PASSES, {"sta.passes": {"bolt-good": "Good", f"bolt-{case}": value}})
    with pytest.raises(OutsideError) as caught:
        compiled(f"bolt-{case}")
    assert str(caught.value).startswith(f"pass 'bolt-{case}' of package bolt-sta: ")
    assert reason in str(caught.value)
    assert compiled("bolt-good").cycles > 0


def test_a_pass_that_changes_what_it_says_to_keep_is_caught_by_the_check(lay: Lay) -> None:
    lay("bolt-sta", PASSES, {"sta.passes": {"bolt-changes": "Changes", "bolt-good": "Good"}})
    with pytest.raises(CheckError, match="bolt-changes"):
        compiled("bolt-changes", check=True)
    assert compiled("bolt-good", check=True).cycles > 0


def test_a_package_that_cannot_be_loaded_has_no_passes(lay: Lay) -> None:
    lay("crash-sta", "raise RuntimeError('no licence')", {"sta.passes": {"crash-x": "X"}})
    lay("bolt-sta", PASSES, {"sta.passes": {"bolt-good": "Good"}})
    reason = r"^pass 'crash-x' of package crash-sta: loading crash_sta:X failed \(RuntimeError: no licence\)$"
    with pytest.raises(OutsideError, match=reason):
        pipeline(Options.of(passes=["crash-x"]))
    assert [step.name for step in pipeline(Options.of(passes=["bolt-good"]))].count("bolt-good") == 1


def test_names_that_are_taken(lay: Lay) -> None:
    lay("bolt-sta", PASSES, {"sta.passes": {"nm-sink-views": "SUNK", "bolt-good": "Good", "canonicalize": "Good"}})
    lay("nut-sta", PASSES, {"sta.passes": {"bolt-good": "Good", "nut-good": "Good"}})
    clash = "pass 'bolt-good' of package bolt-sta: package nut-sta adds one of this name too: uninstall one of them"
    assert sorted(warned(pass_registry)) == [
        f"{clash}; both are left out",
        "pass 'canonicalize' of package bolt-sta: the toolchain has one of this name; it is left out",
        "pass 'nm-sink-views' of package bolt-sta: the toolchain has one of this name; it is left out",
    ]
    assert pass_registry()["nm-sink-views"]().__module__ == "sta.passes.nm.sink_views"
    assert "bolt-good" not in pass_registry()
    assert "nut-good" in pass_registry()
    with pytest.raises(OutsideError, match=f"^{clash}$"):
        pipeline(Options.of(passes=["bolt-good"]))
    with pytest.raises(ValueError, match="no package adds a pass 'nm-sink-views'"):
        pipeline(Options.of(passes=["nm-sink-views"]))
