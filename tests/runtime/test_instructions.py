"""Each instruction on the reference engine, against values computed here in plain NumPy."""

from typing import Any

import numpy as np
import pytest

from sta.runtime import ProgramError
from sta.spec.nm_format import Pattern, pack, prune_by_magnitude
from sta.spec.parameters import MapParameters, NormParameters, RotateParameters, SoftmaxParameters
from sta.spec.rotation import PAIRINGS
from sta.spec.vector import COMBINATIONS

IDENTITY = (1 << 30, 30)


@pytest.fixture
def random() -> np.random.Generator:
    """Returns a seeded generator."""
    return np.random.default_rng(7)


def scaled(values: np.ndarray[Any, Any], multiplier: int, shift: int) -> np.ndarray[Any, Any]:
    """TOSA's rescaling, from its definition."""
    return (values.astype(np.int64) * multiplier + (1 << (shift - 1))) >> shift


def map_block(bias: Any = 0, multiplier: Any = IDENTITY[0], shift: Any = IDENTITY[1], **header: int) -> bytes:
    """Returns the bytes of a map parameter block."""
    biases, multipliers = (np.atleast_1d(np.asarray(values, np.int32)) for values in (bias, multiplier))
    return MapParameters(biases, multipliers, np.atleast_1d(np.asarray(shift, np.int8)), **header).to_bytes()


def product(bench: Any, left: Any, right: Any, **fields: Any) -> int:
    """Emits a dense product of [m, k] and [n, k] to acc address 0; returns the stride of acc."""
    rows, depth = left.shape
    columns = right.shape[0]
    fields = {"b": bench.place(right, "wbuf"), "a_type": "u8" if left.dtype == np.uint8 else "s8", **fields}
    bench.emit(
        "mm",
        acc=0,
        a=bench.place(left),
        acc_stride=bench.register(4 * columns),
        a_stride=bench.register(depth),
        rows=rows,
        columns=columns,
        depth=depth,
        **fields,
    )
    return 4 * columns


def drain(bench: Any, rows: int, columns: int, shift: int = IDENTITY[1]) -> None:
    """Emits a map from acc address 0 to int32 that multiplies by 2^(30 - shift), and stores it."""
    destination = bench.allocate("spad", 4 * rows * columns)
    bench.emit(
        "map",
        source=0,
        destination=bench.register(destination),
        parameters=bench.place(map_block(shift=shift), "wbuf"),
        source_stride=bench.register(4 * columns),
        destination_stride=bench.register(4 * columns),
        rows=rows,
        columns=columns,
        source_type="acc",
        destination_type="s32",
    )
    bench.result(destination, (rows, columns), "int32")


def int8(random: np.random.Generator, *shape: int) -> Any:
    """Returns random int8 values."""
    return random.integers(-128, 128, shape).astype(np.int8)


def test_copies_with_strides(bench: Any, random: np.random.Generator) -> None:
    table = random.integers(0, 256, (6, 20)).astype(np.uint8)
    source = bench.constant(table)
    spad = bench.allocate("spad", 5 * 16)
    # Rows 1, 3, 5, columns 4 to 14, to rows of 16 bytes; back as rows of 11.
    bench.emit(
        "ld",
        dram=bench.register(source + 24),
        sram=bench.register(spad),
        dram_stride=bench.register(40),
        sram_stride=bench.register(16),
        rows=3,
        row_bytes=11,
    )
    bench.result(spad, (3, 11), "uint8", stride=16)
    assert np.array_equal(bench.run().raw["y"], table[1::2, 4:15])


def test_strided_store_leaves_the_rest_alone(bench: Any) -> None:
    offset = bench.port("outputs", "y", (3, 4), "uint8")
    bench.port("inputs", "x", (3, 4), "uint8", address=offset)
    spad = bench.place(np.full((3, 2), 9, np.uint8))
    bench.emit(
        "st",
        dram=bench.writable(offset + 1),
        sram=spad,
        dram_stride=bench.register(4),
        sram_stride=bench.register(2),
        rows=3,
        row_bytes=2,
    )
    given = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = given.astype(np.uint8)
    expected[:, 1:3] = 9
    assert np.array_equal(bench.run(x=given).raw["y"], expected)


def test_gather(bench: Any, random: np.random.Generator) -> None:
    table = random.integers(0, 256, (10, 6)).astype(np.uint8)
    indices = np.array([[9, 0, 3, 3]], np.int32)
    spad = bench.allocate("spad", 4 * 8)
    bench.emit(
        "gather",
        table=bench.register(bench.constant(table)),
        indices=bench.place(indices),
        destination=bench.register(spad),
        destination_stride=bench.register(8),
        limit=bench.register(10),
        rows=4,
        row_bytes=6,
    )
    bench.result(spad, (4, 6), "uint8", stride=8)
    assert np.array_equal(bench.run().raw["y"], table[[9, 0, 3, 3]])


@pytest.mark.parametrize(("index", "shown"), [(10, 10), (-1, -1), (2**31 - 1, 2**31 - 1)])
def test_gather_checks_its_indices(bench: Any, index: int, shown: int) -> None:
    bench.paths = [[0, "embeddings.word", "nm.gather"]]
    bench.emit(
        "gather",
        table=bench.register(bench.constant(bytes(60))),
        indices=bench.place(np.array([[3, index]], np.int32)),
        destination=bench.register(bench.allocate("spad", 16)),
        destination_stride=bench.register(8),
        limit=bench.register(10),
        rows=2,
        row_bytes=6,
    )
    pc = len(bench.code) - 1
    with pytest.raises(ProgramError) as error:
        bench.run()
    expected = f"instruction {pc} (gather, embeddings.word): index {shown} at position 1 is outside 0..9"
    assert str(error.value) == expected


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_dense_product(bench: Any, random: np.random.Generator, dtype: Any) -> None:
    a, b = int8(random, 5, 33).view(dtype), int8(random, 7, 33)
    product(bench, a, b)
    drain(bench, 5, 7)
    assert np.array_equal(bench.run().raw["y"], a.astype(np.int64) @ b.T.astype(np.int64))


@pytest.mark.parametrize("transposed", [False, True])
def test_product_with_a_matrix_in_spad(bench: Any, random: np.random.Generator, transposed: bool) -> None:
    a, b = int8(random, 4, 10), int8(random, 6, 10)
    stored = b.T if transposed else b
    place = bench.place(stored, stride=16)
    product(bench, a, b, b=place, b_stride=bench.register(16), b_space="spad", b_transposed=transposed)
    drain(bench, 4, 6)
    assert np.array_equal(bench.run().raw["y"], a.astype(np.int64) @ b.T)


@pytest.mark.parametrize("encoding", ["bitmap", "index"])
@pytest.mark.parametrize(("n", "m", "depth"), [(2, 4, 16), (1, 3, 10), (3, 16, 40), (31, 32, 33)])
def test_sparse_product(bench: Any, random: np.random.Generator, encoding: str, n: int, m: int, depth: int) -> None:
    a, b = int8(random, 5, depth), int8(random, 6, depth)
    for group in range(0, depth, m):
        for row in b:
            width = min(m, depth - group)
            row[group + random.permutation(width)[n:]] = 0
    block = pack(b, Pattern(n, m), encoding).tobytes()
    product(bench, a, b, b=bench.place(block, "wbuf"), n=n, m=m, encoding=encoding)
    drain(bench, 5, 6)
    assert np.array_equal(bench.run().raw["y"], a.astype(np.int64) @ b.T)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 8), (1, 7), (1, 16), (3, 32), (8, 32)])
@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 1, 5), (27, 21, 200), (13, 32, 64), (9, 17, 129)])
def test_product_with_few_kept_weights(
    bench: Any, random: np.random.Generator, dtype: Any, n: int, m: int, rows: int, columns: int, depth: int
) -> None:
    a = int8(random, rows, depth).view(dtype)
    b = prune_by_magnitude(int8(random, columns, depth).astype(np.int16), Pattern(n, m)).astype(np.int8)
    # Columns with nothing, and with the values whose products are largest.
    b[columns // 2] = 0
    b[-1][b[-1] != 0] = -128
    a[0] = a.dtype.type(np.iinfo(dtype).max)
    block = pack(b, Pattern(n, m), "index").tobytes()
    product(bench, a, b, b=bench.place(block, "wbuf"), n=n, m=m, encoding="index")
    drain(bench, rows, columns)
    assert np.array_equal(bench.run().raw["y"], a.astype(np.int64) @ b.T.astype(np.int64))


def test_malformed_weights_stop_the_run(bench: Any) -> None:
    a, b = np.ones((2, 8), np.int8), np.eye(2, 8, dtype=np.int8)
    block = bytearray(pack(b, Pattern(2, 4), "bitmap").tobytes())
    block[-1] ^= 0x10
    product(bench, a, b, b=bench.place(bytes(block), "wbuf"), n=2, m=4, encoding="bitmap")
    with pytest.raises(ProgramError, match=r"instruction \d+ \(mm\): row 1, group 1"):
        bench.run()


def test_accumulation(bench: Any, random: np.random.Generator) -> None:
    a, b, c, d = (int8(random, 3, 12) for _ in range(4))
    product(bench, a, b)
    product(bench, c, d, accumulate=1)
    drain(bench, 3, 3)
    expected = a.astype(np.int64) @ b.T + c.astype(np.int64) @ d.T
    assert np.array_equal(bench.run().raw["y"], expected)


def test_accumulators_must_fit_int32(bench: Any) -> None:
    bench.sizes["spad"] = 20000
    a = np.full((1, 16000), -128, np.int8)
    matrix = bench.place(a)
    fields = {"b": matrix, "b_space": "spad", "b_stride": 0, "rows": 1, "columns": 1, "depth": 16000}
    bench.emit("mm", acc=0, a=matrix, **fields)
    bench.emit("loop", counter=1, count=7)
    bench.emit("mm", acc=0, a=matrix, accumulate=1, **fields)
    bench.emit("end")
    drain(bench, 1, 1, shift=32)
    # 8 * 16000 * 2^14 is 2097152000 and fits; once more does not.
    assert bench.run().raw["y"] == 2097152000 // 4
    accumulating = next(i for i, instruction in enumerate(bench.code) if instruction.name == "loop") + 1
    bench.code.insert(accumulating + 2, bench.code[accumulating])
    with pytest.raises(ProgramError, match="2359296000 does not fit int32"):
        bench.run()


def softmax_expected(scores: Any, admissible: Any, multiplier: int, shift: int, bias: Any = None) -> tuple[Any, Any]:
    """Un-normalized exponentials and sums, element by element; `bias` is scaled already."""

    def rescaled(value: int) -> int:
        return (value * multiplier + (1 << (shift - 1))) >> shift

    exponentials = np.zeros(scores.shape, np.int64)
    for i, row in enumerate(scores.tolist()):
        keys = [j for j in range(len(row)) if admissible[i, j]]
        for j in keys:
            if bias is None:
                t = rescaled(row[j] - max(row[k] for k in keys))
            else:
                t = rescaled(row[j]) + bias[i, j] - max(rescaled(row[k]) + bias[i, k] for k in keys)
            entry = round(255 * 128 * 2 ** ((t & 1023) / 1024))
            places = min(7 - (t >> 10), 40)
            exponentials[i, j] = (entry + (1 << (places - 1))) >> places
    return exponentials, exponentials.sum(axis=1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", ["none", "full", "shared"])
@pytest.mark.parametrize("bias", ["none", "full", "shared"])
def test_softmax(bench: Any, random: np.random.Generator, causal: bool, mask: str, bias: str) -> None:
    rows, keys, offset = 5, 9, 2
    a, b = int8(random, rows, 16), int8(random, keys, 16)
    multiplier, shift = 1 << 28, 32
    stride = product(bench, a, b, scores=1)
    destination, sums = bench.allocate("spad", 64), bench.allocate("spad", 32)
    admissible = np.ones((rows, keys), bool)
    fields: dict[str, Any] = {}
    if mask != "none":
        given = (random.random((rows if mask == "full" else 1, keys)) < 0.6) * random.integers(1, 256)
        if mask == "full":
            given[0] = 0
        fields |= {"mask": bench.place(given.astype(np.uint8), stride=12), "has_mask": 1}
        fields["mask_stride"] = bench.register(12 if mask == "full" else 0)
        admissible &= given != 0
    bias_scale, added = None, None
    if bias != "none":
        values = random.integers(-32768, 32768, (rows if bias == "full" else 1, keys)).astype(np.int16)
        bias_scale = (1 << 28, 33)
        fields |= {"bias": bench.place(values, stride=2 * keys + 6), "has_bias": 1}
        fields["bias_stride"] = bench.register(2 * keys + 6 if bias == "full" else 0)
        added = np.broadcast_to(scaled(values.astype(np.int64), *bias_scale), (rows, keys))
    if causal:
        fields |= {"causal": 1, "row_offset": bench.register(offset)}
        admissible &= np.arange(keys) <= np.arange(rows)[:, None] + offset
    bench.emit(
        "softmax",
        scores=0,
        destination=bench.register(destination),
        sums=bench.register(sums),
        parameters=bench.place(SoftmaxParameters(multiplier, shift, bias_scale).to_bytes(), "wbuf"),
        scores_stride=bench.register(stride),
        destination_stride=bench.register(12),
        rows=rows,
        keys=keys,
        **fields,
    )
    # Only normalized values may leave the chip, so each exponential is divided by the sum of its row.
    normalized = bench.allocate("spad", 4 * rows * keys)
    bench.emit(
        "map",
        source=bench.register(destination),
        destination=bench.register(normalized),
        parameters=bench.place(map_block(multiplier=1 << 30, shift=14), "wbuf"),
        residual=bench.register(sums),
        source_stride=bench.register(12),
        destination_stride=bench.register(4 * keys),
        rows=rows,
        columns=keys,
        source_type="u8",
        destination_type="s32",
        normalize=1,
    )
    bench.result(normalized, (rows, keys), "int32")
    bench.result(sums, (1, rows), "int32", name="sums")
    raw = bench.run().raw
    exponentials, expected_sums = softmax_expected(a.astype(np.int64) @ b.T, admissible, multiplier, shift, added)
    assert np.array_equal(raw["sums"][0], expected_sums)
    for i, total in enumerate(expected_sums.tolist()):
        # The reciprocal has 31 bits: the quotient with 16 fraction bits is exact to a unit.
        quotient = exponentials[i] * 65536 / total if total else np.zeros(keys)
        assert np.abs(raw["y"][i] - quotient).max() <= 1


def run_map(bench: Any, source: Any, block: bytes, destination_type: str, **fields: Any) -> Any:
    """Runs a map of a source in spad and returns its result; ``residual`` and ``table`` may be arrays."""
    names = {np.dtype(np.int8): "s8", np.dtype(np.uint8): "u8", np.dtype(np.int16): "s16", np.dtype(np.int32): "s32"}
    dtype = {value: np.dtype(key).name for key, value in names.items()}[destination_type]
    rows, columns = source.shape
    row_bytes = columns * np.dtype(dtype).itemsize
    if "residual" in fields:
        residual = fields["residual"]
        fields |= {"residual": bench.place(residual), "residual_type": names[residual.dtype]}
        fields["residual_stride"] = bench.register(residual.itemsize * residual.shape[1])
        fields["residual_column"] = residual.shape[1] != columns
    if "table" in fields:
        fields |= {"table": bench.place(fields["table"], "wbuf"), "has_table": 1}
    destination = bench.allocate("spad", rows * (row_bytes + 4))
    bench.emit(
        "map",
        source=bench.place(source, stride=source.itemsize * (columns + 1)),
        destination=bench.register(destination),
        parameters=bench.place(block, "wbuf"),
        source_stride=bench.register(source.itemsize * (columns + 1)),
        destination_stride=bench.register(row_bytes + 4),
        rows=rows,
        columns=columns,
        source_type=names[source.dtype],
        destination_type=destination_type,
        **fields,
    )
    bench.result(destination, (rows, columns), dtype, stride=row_bytes + 4)
    return bench.run().raw["y"]


@pytest.mark.parametrize(
    ("source_type", "destination_type", "low", "high"),
    [("i4", "s8", -128, 127), ("i2", "u8", 0, 255), ("i1", "s16", -32768, 32767), ("u1", "s32", -(2**31), 2**31 - 1)],
)
def test_map_requantizes(
    bench: Any, random: np.random.Generator, source_type: str, destination_type: str, low: int, high: int
) -> None:
    limits = np.iinfo(source_type)
    source = random.integers(limits.min // 2, limits.max // 2, (3, 8)).astype(source_type)
    multiplier, shift = 3 << 27, 30
    block = map_block(bias=-9, multiplier=multiplier, shift=shift, output_zero_point=5)
    result = run_map(bench, source, block, destination_type)
    expected = np.clip(scaled(source.astype(np.int64) - 9, multiplier, shift) + 5, low, high)
    assert np.array_equal(result, expected)


def test_map_per_channel(bench: Any, random: np.random.Generator) -> None:
    source = random.integers(-50000, 50000, (4, 6)).astype(np.int32)
    bias = random.integers(-1000, 1000, 6)
    multiplier = random.integers(1 << 30, 1 << 31, 6)
    shift = random.integers(33, 38, 6)
    result = run_map(bench, source, map_block(bias, multiplier, shift), "s16", per_channel=1)
    for column in range(6):
        values = scaled(source[:, column].astype(np.int64) + bias[column], int(multiplier[column]), int(shift[column]))
        assert np.array_equal(result[:, column], np.clip(values, -32768, 32767))


def test_map_with_table_and_residual(bench: Any, random: np.random.Generator) -> None:
    source = random.integers(-32768, 32768, (3, 5)).astype(np.int16)
    residual = random.integers(-32768, 32768, (3, 5)).astype(np.int16)
    table = np.sort(random.integers(-32768, 32768, 513)).astype(np.int16)
    block = map_block(
        table_multiplier=1 << 30,
        table_shift=37,
        residual_bias=11,
        residual_multiplier=3 << 28,
        residual_shift=31,
        output_zero_point=-2,
    )
    result = run_map(bench, source, block, "s32", table=table, residual=residual)
    wide = table.astype(np.int64)
    index, fraction = (source.astype(np.int64) + 32768) >> 7, source.astype(np.int64) & 127
    looked_up = (wide[index] << 7) + (wide[index + 1] - wide[index]) * fraction
    expected = scaled(looked_up, 1 << 30, 37) + scaled(residual.astype(np.int64) + 11, 3 << 28, 31) - 2
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("types", [("s8", "s16"), ("s16", "s8")])
@pytest.mark.parametrize(("columns", "width"), [(6, 4), (40, 40), (70, 36), (33, 2)])
def test_rotate(
    bench: Any, random: np.random.Generator, pairing: str, types: tuple[str, str], columns: int, width: int
) -> None:
    rows = 3
    source_type, result_type = (np.dtype({"s8": "i1", "s16": "<i2"}[name]) for name in types)
    source = random.integers(*_range_of(source_type), (rows, columns)).astype(source_type)
    cosines, sines = (random.integers(-32768, 32768, (rows, columns)).astype(np.int16) for _ in range(2))
    # The sum that does not fit int32.
    source[0, :2] = np.iinfo(source_type).min
    cosines[0, :2] = sines[0, :2] = -32768
    multiplier, shift = 5 << 28, 45
    destination = bench.allocate("spad", rows * (result_type.itemsize * columns + 6))
    bench.emit(
        "rotate",
        source=bench.place(source),
        source_stride=bench.register(source_type.itemsize * columns),
        cosines=bench.place(cosines),
        cosines_stride=bench.register(2 * columns),
        sines=bench.place(sines[:1]),
        destination=bench.register(destination),
        destination_stride=bench.register(result_type.itemsize * columns + 6),
        parameters=bench.place(RotateParameters(multiplier, shift).to_bytes(), "wbuf"),
        rows=rows,
        columns=columns,
        width=width,
        source_type=types[0],
        destination_type=types[1],
        pairing=pairing,
    )
    bench.result(destination, (rows, columns), result_type.name, stride=result_type.itemsize * columns + 6)
    wide = source.astype(np.int64)
    other = wide.copy()
    if pairing == "half":
        other[:, :width] = np.roll(wide[:, :width], width // 2, axis=1)
    else:
        other[:, :width:2], other[:, 1:width:2] = wide[:, 1:width:2], wide[:, :width:2]
    sums = np.minimum(wide * cosines + other * sines[:1], 2**31 - 1)
    low, high = _range_of(result_type)
    assert np.array_equal(bench.run().raw["y"], np.clip(scaled(sums, multiplier, shift), low, high - 1))


def _range_of(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max) + 1


@pytest.mark.parametrize("residual_columns", [1, 37])
@pytest.mark.parametrize("combine", COMBINATIONS)
def test_map_combines(bench: Any, random: np.random.Generator, combine: str, residual_columns: int) -> None:
    # The scale of one keeps products below 2^29.
    source = random.integers(-16384, 16384, (3, 37)).astype(np.int16)
    residual = random.integers(-16384, 16384, (3, residual_columns)).astype(np.int16)
    result = run_map(bench, source, map_block(), "s32", residual=residual, combine=combine)
    value, other = source.astype(np.int64), residual.astype(np.int64)
    expected = {
        "add": value + other,
        "multiply": value * other,
        "subtract": value - other,
        "subtract_from": other - value,
        "maximum": np.maximum(value, other),
        "minimum": np.minimum(value, other),
    }
    assert np.array_equal(result, expected[combine])


def test_map_over_its_residual_column(bench: Any, random: np.random.Generator) -> None:
    # Every element of a row is combined with what the first one overwrites.
    source = random.integers(-100, 100, (4, 40)).astype(np.int8)
    place = bench.place(source)
    stride = bench.register(40)
    bench.emit(
        "map",
        source=place,
        destination=place,
        residual=place,
        parameters=bench.place(map_block(), "wbuf"),
        source_stride=stride,
        destination_stride=stride,
        residual_stride=stride,
        source_type="s8",
        destination_type="s8",
        residual_type="s8",
        combine="subtract",
        residual_column=1,
        rows=4,
        columns=40,
    )
    bench.result(0, (4, 40), "int8")
    wide = source.astype(np.int64)
    assert np.array_equal(bench.run().raw["y"], np.clip(wide - wide[:, :1], -128, 127))


def test_map_in_place_and_to_a_narrower_type(bench: Any, random: np.random.Generator) -> None:
    source = random.integers(-100, 100, (4, 8)).astype(np.int16)
    place = bench.place(source)
    fields = {"source_type": "s16", "destination_type": "s8", "rows": 4, "columns": 8}
    bench.emit(
        "map",
        source=place,
        destination=place,
        parameters=bench.place(map_block(), "wbuf"),
        source_stride=bench.register(16),
        destination_stride=bench.register(8),
        **fields,
    )
    bench.result(0, (4, 8), "int8")
    assert np.array_equal(bench.run().raw["y"], source)


def test_map_overflow_stops_the_run(bench: Any) -> None:
    with pytest.raises(ProgramError, match=r"\(map\): the source of a map plus its bias .* does not fit int32"):
        run_map(bench, np.array([[2**31 - 1]], np.int32), map_block(bias=1), "s8")


def test_malformed_parameters_stop_the_run(bench: Any) -> None:
    block = bytearray(map_block())
    block[4] = 63
    with pytest.raises(ProgramError, match=r"\(map\): table shift must be in 2\.\.62, got 63"):
        run_map(bench, np.array([[1]], np.int32), bytes(block), "s8")


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("outputs", ["destination", "copy", "both"])
def test_norm(bench: Any, random: np.random.Generator, kind: str, outputs: str) -> None:
    rows, columns = 4, 24
    source = random.integers(-30000, 30000, (rows, columns)).astype(np.int16)
    gamma = random.integers(1 << 20, 1 << 21, columns).astype(np.int32)
    beta = random.integers(-(1 << 21), 1 << 21, columns).astype(np.int32)
    parameters = NormParameters(gamma, beta, 1000, 20 + 10, 1 << 30, 35, 3)
    stream, copy = bench.allocate("spad", 400), bench.allocate("spad", 200)
    fields: dict[str, Any] = {}
    if outputs != "copy":
        fields |= {"destination": bench.register(stream), "destination_stride": bench.register(2 * columns + 2)}
    if outputs != "destination":
        fields |= {"copy": bench.register(copy), "copy_stride": bench.register(columns + 1)}
    bench.emit(
        "norm",
        source=bench.place(source),
        parameters=bench.place(parameters.to_bytes(), "wbuf"),
        source_stride=bench.register(2 * columns),
        rows=rows,
        columns=columns,
        kind=kind,
        outputs=outputs,
        **fields,
    )
    if outputs != "copy":
        bench.result(stream, (rows, columns), "int16", stride=2 * columns + 2, name="stream")
    if outputs != "destination":
        bench.result(copy, (rows, columns), "int8", stride=columns + 1, name="copy")
    raw = bench.run().raw
    wide = source.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True) if kind == "layer" else wide
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1000 / columns**2)
    expected = (centred / deviation * gamma + beta) / 1024
    if outputs != "copy":
        assert np.abs(raw["stream"] - expected).max() <= 1
    if outputs == "both":
        assert np.array_equal(raw["copy"], np.clip(scaled(raw["stream"], 1 << 30, 35) + 3, -128, 127))
    if outputs == "copy":
        assert np.abs(raw["copy"] - np.clip(expected / 32 + 3, -128, 127)).max() <= 1


def test_loops_and_address_arithmetic(bench: Any) -> None:
    # Transposes a matrix of bytes, one element a copy, with nested loops and a loop that does not run.
    rows, columns = 3, 5
    source = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    spad = bench.allocate("spad", rows * columns)
    bench.emit("lea", rd=10, imm=spad + 100)
    bench.emit("lea", rd=20, imm=bench.constant(source))
    bench.emit("loop", counter=1, count=rows)
    bench.emit("lea", rd=11, rs=20, c1=1, s1=columns)
    bench.emit("loop", counter=2, count=columns)
    bench.emit("lea", rd=12, rs=10, imm=-100, c1=1, s1=1, c2=2, s2=rows)
    bench.emit("lea", rd=13, rs=11, c1=2, s1=1)
    bench.emit("ld", dram=13, sram=12, rows=1, row_bytes=1)
    bench.emit("loop", counter=3, count=0)
    bench.emit("ld", dram=0, sram=12, rows=1, row_bytes=1)
    bench.emit("end")
    bench.emit("end")
    bench.emit("fence")
    bench.emit("end")
    bench.emit("sync", unit="st")
    bench.result(spad, (columns, rows), "uint8")
    assert np.array_equal(bench.run().raw["y"], source.T)


def test_writable_dram_can_be_read_back(bench: Any, random: np.random.Generator) -> None:
    data = random.integers(0, 256, (2, 8)).astype(np.uint8)
    offset = bench.port("inputs", "x", (2, 8), "uint8")
    bench.emit("ld", dram=bench.writable(offset), sram=bench.register(64), rows=1, row_bytes=16, space="spad")
    bench.result(64, (2, 8), "uint8")
    assert np.array_equal(bench.run(x=data.astype(np.float32)).raw["y"], data)
