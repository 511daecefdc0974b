"""The xDSL context of a compile: the dialects, the weights that the IR names, and the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialect_interfaces import DialectInterface
from xdsl.dialect_interfaces.op_asm import OpAsmDialectInterface
from xdsl.ir import Dialect

from sta.dialect.ir.samples import Samples
from sta.dialect.ir.weight_store import WeightStore
from sta.spec.tiling_policy import TilingPolicy

if TYPE_CHECKING:
    from sta.spec.target import Target

DEFAULT_TARGET = "sta-base"


class NamedResources(OpAsmDialectInterface):
    """
    Resources that are the names of arrays in a `WeightStore`: equal names are the same array.

    xDSL's own interface is shared by every context of a process and renames a resource that any module parsed earlier
    mentioned, so that the second parse of the same text would name arrays that do not exist.
    """

    def declare_resource(self, key: str) -> str:
        """The key itself. Only the name is kept; arrays never pass through text."""
        self._blob_storage[key] = ""
        return key


class CompileInterface(DialectInterface):
    """
    Passes' data besides the IR, for contexts made elsewhere that are no `CompileContext`; the dialect `builtin` brings
    it along.
    """

    def __init__(self, weights: WeightStore, target: Target, policy: TilingPolicy | None = None) -> None:
        self.weights = weights
        self.target = target
        self.policy = policy or TilingPolicy()


class CompileContext(Context):
    """
    Passes' data besides the IR.

    `weights` is the store of the module's names; `target` the machine compiled for (`sta-base` if none is given, loaded
    on first use); `policy` the constants of tiling. The dialects `builtin`, `func`, `torch`, `nm` and `sta` are
    registered and loaded on first use.

    `samples` are inputs of the model for passes that need some; `original` runs the model as it was given on one, if it
    can be run. Long passes report their activity and its completed
    share to `report` (None if unknown). In `notes` a pass leaves, under its name, results besides the IR.
    """

    def __init__(
        self, weights: WeightStore | None = None, target: Target | None = None, policy: TilingPolicy | None = None
    ) -> None:
        super().__init__()
        self.weights = WeightStore() if weights is None else weights
        self.samples = Samples()
        self.original: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]] | None = None
        self.report: Callable[[str, float | None], None] = lambda stage, done: None
        self.notes: dict[str, Any] = {}
        self._target = target
        self.policy = policy or TilingPolicy()
        register_dialects(self)

    @property
    def target(self) -> Target:
        """The machine compiled for."""
        if self._target is None:
            from sta.spec.target import load_target

            self._target = load_target(DEFAULT_TARGET)
        return self._target

    def clone(self) -> CompileContext:
        """A context of its own for the same target, the same arrays in a store of its own, and the same samples."""
        copy = CompileContext(self.weights.copy(), self._target, self.policy)
        copy.samples = self.samples
        return copy


def register_dialects(context: Context) -> None:
    """Registers the dialects of a compile, to be imported on first use."""
    for name, factory in dialect_factories().items():
        context.register_dialect(name, factory)


def dialect_factories(interface: CompileInterface | None = None) -> dict[str, Callable[[], Dialect]]:
    """The dialects of a compile, by name; `builtin` with an interface if one is given."""

    def builtin() -> Dialect:
        from xdsl.dialects.builtin import Builtin

        own: list[DialectInterface] = [NamedResources()]
        if interface is not None:
            own.append(interface)
        return Dialect("builtin", list(Builtin.operations), list(Builtin.attributes), own)

    def func() -> Dialect:
        from xdsl.dialects.func import Func

        return Func

    def torch() -> Dialect:
        from sta.dialect.torch import torch_dialect

        return torch_dialect()

    def nm() -> Dialect:
        from sta.dialect.nm import NM

        return NM

    def sta() -> Dialect:
        from sta.dialect.sta import STA

        return STA

    def host() -> Dialect:
        from sta.dialect.host import HOST

        return HOST

    return {factory.__name__: factory for factory in (builtin, func, torch, nm, sta, host)}


def weights_of(context: Context) -> WeightStore:
    """
    The weight store of the compile of `context`.

    Raises ValueError for a plain xDSL context, which has none.
    """
    found = _compile_of(context)
    if found is None:
        raise ValueError(
            "this pass reads weights: run it in a sta.dialect.ir.context.CompileContext (`sta opt --weights`)"
        )
    return found.weights


def target_of(context: Context) -> Target:
    """
    The target of the compile of `context`.

    Raises ValueError for a plain xDSL context, which has none.
    """
    found = _compile_of(context)
    if found is None:
        raise ValueError(
            "this pass needs a target: run it in a sta.dialect.ir.context.CompileContext (`sta opt --sta-target`)"
        )
    return found.target


def policy_of(context: Context) -> TilingPolicy:
    """The tiling policy of the compile of `context`; the default policy for a plain xDSL context."""
    found = _compile_of(context)
    return TilingPolicy() if found is None else found.policy


def compile_context(context: Context) -> CompileContext:
    """`context` as the context of a compile, with samples. Raises ValueError for any other context."""
    if isinstance(context, CompileContext):
        return context
    raise ValueError(
        "this pass needs sample inputs, which only a compile has: `sta compile --calibration`, or a pass manager with "
        "a sta.dialect.ir.context.CompileContext"
    )


def _compile_of(context: Context) -> CompileContext | CompileInterface | None:
    if isinstance(context, CompileContext):
        return context
    interfaces = (dialect.get_interface(CompileInterface) for dialect in context.loaded_dialects)
    return next((interface for interface in interfaces if interface is not None), None)
