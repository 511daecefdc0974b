"""A Hypothesis strategy of small Transformers in the `nm` dialect, for machines large and small."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from xdsl.ir import SSAValue

from sta.dialect import nm
from sta.spec.nm_format import DENSE, Pattern
from sta.spec.target import Target, load_target
from tests.support.nm_builder import PLAIN_TARGET, Case, NmBuilder

TINY = replace(
    PLAIN_TARGET,
    name="tiny",
    array_rows=2,
    array_columns=2,
    multipliers=2,
    window=4,
    sram_bytes=1 << 14,
    dma_bytes_per_cycle=4,
    tile_rows=8,
    tile_columns=8,
    queue_depth=2,
)
"""16 KiB: values of any size go to DRAM, and the depth of products is cut."""
MASKS = ("none", "keys", "queries", "full", "constant", "transposed")
QUERY_KEY_VALUE = ("separate", "joined")


@st.composite
def machines(draw: st.DrawFn) -> Target:
    """Draws a preset, or a machine with some memory and tiles that divide nothing."""
    name = draw(st.sampled_from(["tiny", "tiny", "plain", "sta-small", "sta-base", "drawn"]))
    if name == "drawn":
        rows, columns, kilobytes = draw(st.tuples(st.integers(3, 20), st.integers(3, 20), st.integers(16, 48)))
        return replace(TINY, name="drawn", tile_rows=rows, tile_columns=columns, sram_bytes=1024 * kilobytes)
    own = {"tiny": TINY, "plain": PLAIN_TARGET}
    return own[name] if name in own else load_target(name)


PATTERNS = st.one_of(
    st.just(DENSE),
    st.integers(2, 32).flatmap(lambda m: st.builds(Pattern, st.integers(1, m), st.just(m))),
    st.sampled_from([Pattern(2, 4), Pattern(1, 4), Pattern(1, 8)]),
)


@dataclass(frozen=True)
class Transformer:
    """Shape of a drawn model."""

    target: Target
    batch: int
    sequence: int
    heads: int
    depth: int
    hidden: int
    blocks: int
    sequence_first: bool
    causal: bool
    mask: str
    pre_norm: bool
    kind: str
    query_key_value: str
    embedding: bool
    activation: bool
    patterns: tuple[Pattern, ...]
    pooled: bool
    seed: int
    wide: tuple[bool, ...] = (False,)
    """True if inputs of linear layers have 16 bits: each layer draws one of these."""

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.heads * self.depth

    def case(self) -> Case:
        """The model as a module, with weights and inputs."""
        return _Construction(self).case()


@dataclass
class _Construction:
    model: Transformer

    def __post_init__(self) -> None:
        self.builder = NmBuilder(self.model.target, self.model.seed)

    def case(self) -> Case:
        model, builder = self.model, self.builder
        mask = self._mask()
        x = self._stream()
        for index in range(model.blocks):
            x = self._block(x, mask, f"layer.{index}")
        if not model.pooled:
            return builder.case(x)
        builder.path = "pooler"
        first = builder.slice(x, 0 if model.sequence_first else 1, 0, 1)
        narrow = builder.clamp(builder.rescale(first, 1 / 200), nm.si8, 1)
        return builder.case(builder.clamp(self._linear(narrow, 3), nm.si16), x)

    def _pattern(self) -> Pattern:
        return self.model.patterns[int(self.builder.random.integers(len(self.model.patterns)))]

    def _wide(self) -> bool:
        return self.model.wide[int(self.builder.random.integers(len(self.model.wide)))]

    def _linear(self, x: SSAValue, columns: int, spread: float = 60.0) -> SSAValue:
        return self.builder.linear(x, columns, self.builder.path, self._pattern(), spread)

    def _stream(self) -> SSAValue:
        model, builder = self.model, self.builder
        shape = (model.batch, model.sequence)
        if not model.embedding:
            builder.path = "input"
            x = builder.stream("x", (*shape, model.width))
        else:
            builder.path = "embeddings"
            ids = builder.argument("ids", shape, nm.si32, builder.random.integers(0, 11, shape), "index", 11)
            table = builder.weight("embeddings.word", builder.random.integers(-9000, 9000, (11, model.width)), nm.si16)
            rows = builder.add(nm.GatherOp(table, ids)).result
            places = builder.weight(
                "embeddings.position", builder.random.integers(-5000, 5000, (*shape[1:], model.width)), nm.si16
            )
            x = builder.clamp(builder.sum(builder.rescale(rows, 0.8), builder.rescale(places, 0.3)), nm.si16)
        return builder.permute(x, 1, 0, 2) if model.sequence_first else x

    def _mask(self) -> SSAValue | None:
        model, builder = self.model, self.builder
        batch, heads, length = model.batch, model.heads, model.sequence
        builder.path = "mask"
        match model.mask:
            case "keys":
                return builder.view(builder.mask("mask", (batch, length)), batch, 1, 1, length)
            case "queries":
                return builder.mask("mask", (batch, 1, length, length))
            case "full":
                return builder.mask("mask", (batch, heads, length, length))
            case "transposed":
                return builder.permute(builder.mask("mask", (length, 1, batch, length)), 2, 1, 3, 0)
            case "constant":
                values = builder.random.random((1, 1, length, length)) < 0.6
                return builder.weight("mask.constant", values.astype(np.uint8), nm.ui8)
            case _:
                return None

    def _input(self, x: SSAValue, zero_point: int) -> SSAValue:
        """The stream as a linear layer takes it: rounded to 8 bits, or as it is."""
        if self._wide():
            return x
        return self.builder.clamp(self.builder.rescale(x, 1 / 150), nm.si8, zero_point)

    def _block(self, x: SSAValue, mask: SSAValue | None, path: str) -> SSAValue:
        model, builder = self.model, self.builder
        builder.path = f"{path}.attention"
        source = builder.norm(x, f"{path}.norm1", model.kind) if model.pre_norm else x
        attended = self._attention(self._input(source, -3), mask)
        builder.path = f"{path}.attention.output"
        projected = self._unjoined(self._linear(attended, model.width, 4000.0))
        x = builder.clamp(builder.sum(projected, builder.rescale(x, 0.7)), nm.si16)
        builder.path = f"{path}.norm"
        normalized = builder.norm(x, f"{path}.norm2", model.kind)
        x = x if model.pre_norm else normalized
        builder.path = f"{path}.intermediate"
        wide = self._wide()
        spread = 9000.0 if model.activation or wide else 60.0
        hidden = self._linear(self._input(normalized, 2), model.hidden, spread)
        if model.activation:
            looked_up = builder.table(builder.clamp(hidden, nm.si16), path)
            hidden = builder.rescale(looked_up, 1 / 128 if wide else 1 / 128 / 100)
        zero_point = -100 if model.activation and not wide else 0
        activated = builder.clamp(hidden, nm.si16 if wide else nm.si8, zero_point)
        builder.path = f"{path}.output"
        return builder.clamp(
            builder.sum(builder.rescale(x, 0.5), self._linear(activated, model.width, 4000.0)), nm.si16
        )

    def _unjoined(self, projected: SSAValue) -> SSAValue:
        """Sequence-first attention projects [S * B, E]; the stream is [S, B, E]."""
        model = self.model
        if not model.sequence_first:
            return projected
        return self.builder.view(projected, model.sequence, model.batch, model.width)

    def _attention(self, x: SSAValue, mask: SSAValue | None) -> SSAValue:
        model, builder = self.model, self.builder
        if model.query_key_value == "joined":
            joined = builder.clamp(self._linear(x, 3 * model.width), nm.si8)
            parts = [builder.slice(joined, 2, i * model.width, (i + 1) * model.width) for i in range(3)]
        else:
            parts = [builder.clamp(self._linear(x, model.width), nm.si8) for _ in range(3)]
        q, k, v = (self._heads(part) for part in parts)
        result = builder.attention((q, k, v), mask, model.causal, nm.si16 if self._wide() else nm.si8)
        if model.sequence_first:
            return builder.view(builder.permute(result, 2, 0, 1, 3), model.sequence * model.batch, model.width)
        return builder.view(builder.permute(result, 0, 2, 1, 3), model.batch, model.sequence, model.width)

    def _heads(self, x: SSAValue) -> SSAValue:
        model, builder = self.model, self.builder
        batch, heads, length, depth = model.batch, model.heads, model.sequence, model.depth
        if not model.sequence_first:
            return builder.permute(builder.view(x, batch, length, heads, depth), 0, 2, 1, 3)
        rows = builder.permute(builder.view(x, length, batch * heads, depth), 1, 0, 2)
        return builder.view(rows, batch, heads, length, depth)


@st.composite
def transformers(draw: st.DrawFn, longest: int = 24, widest: int = 40) -> Transformer:
    """Draws a model; `longest` bounds the sequence, `widest` the feed-forward layer."""
    return Transformer(
        target=draw(machines()),
        batch=draw(st.integers(1, 3)),
        sequence=draw(st.integers(1, longest)),
        heads=draw(st.integers(1, 3)),
        depth=draw(st.sampled_from([1, 2, 5, 8, 13, 16, 26])),
        hidden=draw(st.integers(1, widest)),
        blocks=draw(st.sampled_from([1, 1, 2])),
        sequence_first=draw(st.booleans()),
        causal=draw(st.booleans()),
        mask=draw(st.sampled_from(MASKS)),
        pre_norm=draw(st.booleans()),
        kind=draw(st.sampled_from(["layer", "rms"])),
        query_key_value=draw(st.sampled_from(QUERY_KEY_VALUE)),
        embedding=draw(st.booleans()),
        activation=draw(st.booleans()),
        patterns=tuple(draw(st.lists(PATTERNS, min_size=1, max_size=3))),
        wide=draw(st.sampled_from([(False,), (False, True), (True,)])),
        pooled=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32)),
    )
