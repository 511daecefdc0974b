"""Dialects, passes and targets for `xdsl-opt` and other tools, found by the `xdsl.universe` entry point."""

from __future__ import annotations

from xdsl.ir import Dialect
from xdsl.universe import Universe
from xdsl.utils.target import Target

from sta.passes.pipeline import pass_registry


def _torch() -> Dialect:
    from sta.dialect.torch import torch_dialect

    return torch_dialect()


def _nm() -> Dialect:
    from sta.dialect.nm import NM

    return NM


def _sta() -> Dialect:
    from sta.dialect.sta import STA

    return STA


def _assembly() -> type[Target]:
    from sta.api.compiler.assembly_target import StaAsmTarget

    return StaAsmTarget


STA_UNIVERSE = Universe(
    all_dialects={"torch": _torch, "nm": _nm, "sta": _sta},
    all_passes=pass_registry(),
    all_targets={"sta-asm": _assembly},
)
