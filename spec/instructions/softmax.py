"""Exponentials of attention scores and their sums."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from sta.spec.cost import softmax_cycles
from sta.spec.instructions.access import BYTE, DTYPES, WORD, Access, parameter_block, read, write
from sta.spec.instructions.definition import (
    Execute,
    Field,
    InstructionDefinition,
    Operands,
    Scalars,
    Settings,
    Taint,
    flag,
    register,
    tile_size,
)
from sta.spec.parameters import SoftmaxParameters
from sta.spec.softmax import STATE_ARRAYS, Bias, RowState, softmax_online, softmax_row
from sta.spec.tables import EXPONENTIAL_BITS
from sta.spec.target import Target
from sta.spec.vector import RowStatistics


def _accesses(settings: Settings) -> Iterable[Access]:
    rows, keys, mode = settings["rows"], settings["keys"], settings.choice("mode")
    yield read("scores", "acc", WORD, rows, keys, "scores_stride")
    yield parameter_block(SoftmaxParameters.size())
    if settings["has_mask"]:
        yield read("mask", "spad", BYTE, rows, keys, "mask_stride")
    if settings["has_bias"]:
        yield read("bias", "spad", DTYPES["s16"], rows, keys, "bias_stride")
    if mode == "online":
        # The last array, the shifts, is not read again.
        yield Access("state", "spad", False, "sums", WORD, STATE_ARRAYS - 1, rows)
    yield write(
        "destination", "spad", DTYPES[f"u{settings.choice('probability_bits')}"], rows, keys, "destination_stride"
    )
    # Sums and the rest of a row's state may leave the chip: a few numbers a row.
    yield Access("sums", "spad", True, "sums", WORD, 1 if mode == "row" else STATE_ARRAYS, rows, may_leave=True)


def _semantics(settings: Settings) -> Execute:
    admissible, bits = _admissible(settings), int(settings.choice("probability_bits"))
    has_bias = bool(settings["has_bias"])
    if settings.choice("mode") == "row":

        def execute_row(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
            scale = SoftmaxParameters.from_bytes(operands["parameters"], has_bias=has_bias)
            allowed, bias = admissible(operands, scalars), _bias(operands, scale)
            exponentials, sums = softmax_row(operands["scores"], allowed, scale.multiplier, scale.shift, bits, bias)
            operands["destination"][...] = exponentials
            operands["sums"][0] = sums

        return execute_row

    def execute_online(operands: Operands, scalars: Scalars, statistics: RowStatistics) -> None:
        scale = SoftmaxParameters.from_bytes(operands["parameters"], has_bias=has_bias)
        scores, allowed = operands["scores"], admissible(operands, scalars)
        state, known = RowState.empty(scores.shape[:1]), operands.get("state")
        if known is not None:
            sums, maxima = known.astype(np.int64)
            state = RowState(sums, maxima, state.shifts)
        bias = _bias(operands, scale)
        exponentials, state = softmax_online(scores, allowed, scale.multiplier, scale.shift, state, bits, bias)
        operands["destination"][...] = exponentials
        operands["sums"][...] = state

    return execute_online


def _bias(operands: Operands, scale: SoftmaxParameters) -> Bias | None:
    return None if scale.bias_scale is None else Bias(operands["bias"], *scale.bias_scale)


def _admissible(settings: Settings) -> Callable[[Operands, Scalars], npt.NDArray[np.bool_]]:
    """Returns the function that gives the admissible keys, broadcastable to ``[rows, keys]``."""
    queries, keys = np.arange(settings["rows"])[:, np.newaxis], np.arange(settings["keys"])
    masked, causal = bool(settings["has_mask"]), bool(settings["causal"])

    def admissible(operands: Operands, scalars: Scalars) -> npt.NDArray[np.bool_]:
        allowed = operands["mask"] != 0 if masked else np.ones((1, 1), np.bool_)
        if not causal:
            return allowed
        return allowed & (keys + scalars["key_offset"] <= queries + scalars["row_offset"])

    return admissible


def _cycles(settings: Settings, target: Target, _timed: int) -> int:
    return softmax_cycles(target, settings["rows"], settings["keys"])


def _taint(_settings: Settings) -> Taint:
    return Taint(sets=True)


DEFINITION = InstructionDefinition(
    "softmax",
    32,
    "sm",
    "Exponentials of attention scores relative to the largest of their row, not yet normalized, and their sums.",
    (
        register("scores", "address of the int32 scores in acc"),
        register("destination", "address of the uint8 or uint16 exponentials in spad"),
        register("sums", "address of int32 sums[rows] in spad; online of sums[rows], maxima[rows] and shifts[rows]"),
        register("parameters", "address of the softmax parameter block in wbuf"),
        register("mask", "address of the uint8 mask in spad; non-zero: the key is admissible", optional=True),
        register("scores_stride", "bytes from one row of scores to the next", optional=True),
        register("destination_stride", "bytes from one row of exponentials to the next", optional=True),
        register("mask_stride", "bytes from one row of the mask to the next; 0: all rows share one", optional=True),
        register("row_offset", "added to the row number in the causal test", optional=True),
        register("key_offset", "added to the key number in the causal test", optional=True),
        tile_size("rows", "number of rows (queries)"),
        Field("keys", 13, "unsigned", "number of columns (keys)", bias=1),
        flag("has_mask", "read a mask"),
        flag("causal", "key j is admissible only if j + key_offset <= i + row_offset"),
        Field(
            "probability_bits",
            1,
            "choice",
            "width of the exponentials",
            choices=tuple(map(str, EXPONENTIAL_BITS)),
            default=0,
        ),
        Field(
            "mode",
            2,
            "choice",
            "`row`: all keys of a row; `online`: the next keys, `online_first`: the first keys of a row",
            choices=("row", "online", "online_first"),
            default=0,
        ),
        register("bias", "address of the int16 bias in spad, which is added to the scores", optional=True),
        register("bias_stride", "bytes from one row of the bias to the next; 0: all rows share one", optional=True),
        flag("has_bias", "add a bias, scaled by its own scale of the parameter block"),
    ),
    details=(
        "Defined by `sta.spec.softmax.softmax_row`, in the online modes by `sta.spec.softmax.softmax_online`: these "
        "take the keys of a row chunk by chunk and keep the state of the rows at `sums` (int32, one array behind the "
        "other), which `online_first` starts from nothing. A key is admissible if the mask (when there is one) and the "
        "causal test (when asked for) allow it; the exponential of others is 0, and a row without admissible key has "
        "sum 0. Parameter block: `sta.spec.parameters.SoftmaxParameters`. Cycles: 2 * ceil(rows * keys / "
        "`softmax_lanes`)."
    ),
    # Places of rows and keys are permitted even without a causal test.
    scalars=("row_offset", "key_offset"),
    accesses=_accesses,
    semantics=_semantics,
    cycles=_cycles,
    taint=_taint,
)
