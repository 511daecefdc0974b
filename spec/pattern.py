"""N:M sparsity patterns: of every M consecutive weights along the reduction axis at most N are not zero."""

import re
from dataclasses import dataclass

LARGEST_GROUP = 32
"""The largest M."""


@dataclass(frozen=True, order=True)
class Pattern:
    """
    The pattern N:M, ``1 <= n <= m <= 32``; N = M is dense.

    Raises `ValueError` for other values.
    """

    n: int
    """An N:M pattern: at most N of every M weights are non-zero."""
    m: int
    """The length of a group along the reduction axis."""

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= LARGEST_GROUP:
            raise ValueError(
                f"pattern {self.n}:{self.m} is not supported: it must satisfy 1 <= N <= M <= {LARGEST_GROUP}"
            )

    @staticmethod
    def parse(text: str) -> "Pattern":
        """Reads the form that `str` writes, such as ``2:4``; raises `ValueError` for anything else."""
        match = re.fullmatch(r"\s*([0-9]{1,4})\s*:\s*([0-9]{1,4})\s*", text, flags=re.ASCII)
        if match is None:
            raise ValueError(f"{text!r} is not a sparsity pattern: write N:M, such as 2:4")
        return Pattern(int(match[1]), int(match[2]))

    @property
    def is_dense(self) -> bool:
        """True if every weight may be non-zero (N = M)."""
        return self.n == self.m

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


DENSE = Pattern(1, 1)
"""The dense pattern."""


def kept(k: int, pattern: Pattern) -> int:
    """Returns the number of stored weights of a row of `k`: ``ceil(k / M) * N``, and `k` itself when dense."""
    if k < 0:
        raise ValueError(f"a row cannot hold {k} weights")
    return k if pattern.is_dense else -(-k // pattern.m) * pattern.n
