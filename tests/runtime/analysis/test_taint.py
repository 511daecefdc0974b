"""Attention scores and un-normalized exponentials must not leave the chip."""

from typing import Any

import pytest

from sta.runtime import ProgramError
from sta.runtime.analysis.taint import check_taint
from sta.spec.instructions.instruction import Instruction

A, B, C, D = 0, 256, 512, 768
"""Places in spad."""


class Steps:
    """Emits instructions on 4 x 8 tiles, by place in spad; accumulators at 0, parameters at 0 of wbuf."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.at = bench.register
        bench.scratch = 4096

    def scores(self, accumulate: int = 0, scores: int = 1, a: int = A, acc: int = 0) -> None:
        """A product into acc."""
        fields = {"a_stride": self.at(8), "acc_stride": self.at(32), "rows": 4, "columns": 8, "depth": 8}
        fields |= {"accumulate": accumulate, "scores": scores}
        self.bench.emit("mm", acc=self.at(acc), a=self.at(a), b=0, **fields)

    def product_with(self, b: int) -> None:
        """A product with a matrix in spad."""
        fields = {"a_stride": self.at(8), "acc_stride": self.at(32), "b_stride": self.at(8), "b_space": "spad"}
        self.bench.emit("mm", acc=0, a=self.at(A), b=self.at(b), rows=4, columns=8, depth=8, **fields)

    def softmax(self, destination: int, sums: int, probability_bits: str = "8", **fields: Any) -> None:
        """A softmax of the accumulators."""
        stride = {"8": 8, "16": 16}[probability_bits]
        fields |= {"scores_stride": self.at(32), "destination_stride": self.at(stride), "rows": 4, "keys": 8}
        fields |= {"probability_bits": probability_bits}
        self.bench.emit(
            "softmax", scores=0, destination=self.at(destination), sums=self.at(sums), parameters=0, **fields
        )

    def map(self, source: int, destination: int, source_type: str = "s8", **fields: Any) -> None:
        """A map to int8; ``residual`` is a place."""
        strides = {"acc": 32, "acc_wide": 64}
        strides = {"source_stride": self.at(strides.get(source_type, 8)), "destination_stride": self.at(8)}
        if "residual" in fields:
            fields["residual"] = self.at(fields["residual"])
        if "residual_type" in fields:
            fields["residual_stride"] = self.at(8)
        fields |= {"source_type": source_type, "destination_type": "s8", "rows": 4, "columns": 8}
        self.bench.emit(
            "map", source=self.at(source), destination=self.at(destination), parameters=0, **strides, **fields
        )

    def norm(self, source: int, copy: int) -> None:
        """A norm of 4 x 4 values to an int8 copy."""
        fields = {"source_stride": self.at(8), "copy_stride": self.at(4), "rows": 4, "columns": 4, "outputs": "copy"}
        self.bench.emit("norm", source=self.at(source), copy=self.at(copy), parameters=0, **fields)

    def store(self, place: int, size: int = 32) -> None:
        """A store of some bytes."""
        self.bench.emit("st", dram=self.bench.writable(0), sram=self.at(place), rows=1, row_bytes=size)

    def load(self, place: int, size: int = 32) -> None:
        """A load of some bytes."""
        self.bench.emit("ld", dram=0, sram=self.at(place), rows=1, row_bytes=size)

    def leaks(self) -> bool:
        """Returns whether the check refuses the program, which it must do at its last instruction."""
        pc = len(self.bench.code) - 1
        program = self.bench.program()
        try:
            program.check()
        except ProgramError as error:
            message = str(error)
        else:
            # The native engine checks; what it lets pass must pass the check as it is written down.
            check_taint(program.valid)
            return False
        start = f"instruction {pc} ({self.bench.code[pc].name}): reads attention scores or exponentials that have not"
        assert message.startswith(start)
        return True


@pytest.fixture
def steps(bench: Any) -> Steps:
    """Returns the emitter of instructions."""
    return Steps(bench)


def test_a_run_makes_the_check(steps: Steps) -> None:
    steps.scores()
    steps.map(0, B, "acc")
    steps.store(B)
    with pytest.raises(ProgramError, match="these must stay on the chip"):
        steps.bench.program().run({})


def test_scores_taint_and_other_products_do_not(steps: Steps) -> None:
    steps.scores(scores=0)
    steps.map(0, B, "acc")
    steps.store(B)
    assert not steps.leaks()


def test_exponentials_taint_and_their_sums_do_not(steps: Steps) -> None:
    steps.scores(scores=0)
    steps.softmax(B, C)
    steps.store(C, 16)
    assert not steps.leaks()
    steps.store(B + 31, 1)
    assert steps.leaks()


def test_taint_passes_through_products_until_normalized(steps: Steps) -> None:
    steps.scores()
    steps.softmax(B, C)
    steps.scores(scores=0, a=B)
    steps.map(0, D, "acc", normalize=1, residual=C)
    steps.store(D)
    assert not steps.leaks()
    steps.map(0, D, "acc")
    steps.store(D)
    assert steps.leaks()


@pytest.mark.parametrize("scores", [0, 1])
def test_a_shift_keeps_taint(steps: Steps, scores: int) -> None:
    steps.scores(scores=scores)
    steps.bench.emit("shift", acc=0, shifts=steps.at(C), acc_stride=steps.at(32), rows=4, columns=8)
    steps.map(0, B, "acc")
    steps.store(B)
    assert steps.leaks() == bool(scores)


@pytest.mark.parametrize("mode", ["online_first", "online"])
def test_online_exponentials_taint_and_the_state_of_rows_does_not(steps: Steps, mode: str) -> None:
    steps.scores()
    steps.softmax(B, C, mode=mode, probability_bits="16")
    steps.store(C, 48)
    assert not steps.leaks()
    steps.store(B + 48, 16)
    assert steps.leaks()


@pytest.mark.parametrize("byte", [0, 1])
def test_a_wide_product_of_exponentials_is_tainted_until_normalized(steps: Steps, byte: int) -> None:
    steps.scores()
    steps.softmax(B, C, probability_bits="16")
    fields = {"a_stride": steps.at(16), "acc_stride": steps.at(64), "rows": 4, "columns": 8, "depth": 8}
    steps.bench.emit("mm", acc=steps.at(32), a=steps.at(B + byte), b=0, a_wide=1, **fields)
    steps.map(0, D, "acc_wide", normalize=1, residual=C)
    steps.store(D)
    assert not steps.leaks()
    steps.map(0, D, "acc_wide")
    steps.store(D)
    assert steps.leaks()


def test_taint_passes_through_the_second_operand(steps: Steps) -> None:
    steps.scores()
    steps.softmax(B, C)
    steps.product_with(B)
    steps.map(0, D, "acc")
    steps.store(D)
    assert steps.leaks()


@pytest.mark.parametrize("accumulate", [0, 1])
def test_accumulating_keeps_taint_and_overwriting_clears_it(steps: Steps, accumulate: int) -> None:
    steps.scores()
    steps.scores(scores=0, accumulate=accumulate)
    steps.map(0, D, "acc")
    steps.store(D)
    assert steps.leaks() == bool(accumulate)


@pytest.mark.parametrize("tainted", ["source", "residual", "neither"])
def test_taint_passes_through_maps(steps: Steps, tainted: str) -> None:
    steps.scores()
    steps.softmax(B, C)
    source, residual = (B if tainted == "source" else A), (B if tainted == "residual" else A)
    steps.map(source, D, residual=residual, residual_type="s8")
    steps.store(D)
    assert steps.leaks() == (tainted != "neither")


def test_taint_passes_through_norms(steps: Steps) -> None:
    steps.scores()
    steps.softmax(B, C)
    steps.norm(B, D)
    steps.store(D, 1)
    assert steps.leaks()


def test_loading_clears_taint_byte_by_byte(steps: Steps) -> None:
    steps.scores()
    steps.softmax(B, C)
    steps.load(B, 20)
    steps.store(B, 20)
    assert not steps.leaks()
    steps.store(B, 21)
    assert steps.leaks()


def test_rows_are_followed_by_their_strides(steps: Steps) -> None:
    steps.scores()
    steps.softmax(B, C)
    fields = {"dram_stride": steps.at(8), "sram_stride": steps.at(8), "rows": 4}
    steps.bench.emit("ld", dram=0, sram=steps.at(B), row_bytes=7, **fields)
    steps.bench.emit("st", dram=steps.bench.writable(0), sram=steps.at(B), row_bytes=7, **fields)
    assert not steps.leaks()
    steps.bench.emit("st", dram=steps.bench.writable(0), sram=steps.at(B), row_bytes=8, **fields)
    assert steps.leaks()


def test_a_gather_does_not_read_exponentials(steps: Steps) -> None:
    steps.scores()
    steps.softmax(B, C)
    fields = {"limit": steps.at(4), "destination_stride": steps.at(8), "rows": 4, "row_bytes": 8}
    steps.bench.emit("gather", table=0, indices=steps.at(B), destination=steps.at(D), **fields)
    assert steps.leaks()


def test_a_gather_clears_taint(steps: Steps) -> None:
    steps.scores()
    steps.softmax(B, C)
    fields = {"limit": steps.at(4), "destination_stride": steps.at(8), "rows": 4, "row_bytes": 8}
    steps.bench.emit("gather", table=0, indices=steps.at(A), destination=steps.at(B), **fields)
    steps.store(B)
    assert not steps.leaks()


def test_loops_carry_taint(steps: Steps) -> None:
    # In the second iteration the store reads what the first one has made of the scores.
    steps.bench.emit("loop", counter=1, count=2)
    steps.store(B)
    store = len(steps.bench.code) - 1
    steps.scores()
    steps.map(0, B, "acc")
    steps.bench.emit("end")
    with pytest.raises(ProgramError, match=rf"instruction {store} \(st\): reads attention scores"):
        steps.bench.program().check()
    steps.bench.code[0] = Instruction.make("loop", counter=1, count=1)
    steps.bench.program().check()
