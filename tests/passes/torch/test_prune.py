"""One-shot pruning: layers, patterns and names."""

import numpy as np
import pytest
import torch
from torch import nn

from sta.dialect import torch as dialect
from sta.dialect.ir.context import CompileContext
from sta.frontend.model import ImportedModel, import_model
from sta.passes.torch.prune import TorchPrunePass, prune
from sta.spec.nm_format import Pattern, prune_by_magnitude, satisfies


class Tied(nn.Module):
    """Three layers, the last with the weight of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Sequential(nn.Linear(8, 8))
        self.third = nn.Linear(8, 8, bias=False)
        self.third.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(x)))


@pytest.fixture
def imported() -> ImportedModel:
    return import_model(Tied(), (torch.ones(1, 8),))


def weights(imported: ImportedModel) -> list[str | None]:
    layers = [operation for operation in imported.module.walk() if isinstance(operation, dialect.LinearOp)]
    return [
        layer.weight.owner.resource if isinstance(layer.weight.owner, dialect.LiteralOp) else None for layer in layers
    ]


def test_every_layer_is_pruned_by_magnitude(imported: ImportedModel) -> None:
    before = imported.weights.get("first.weight")
    TorchPrunePass(pattern="2:4").apply(CompileContext(imported.weights), imported.module)
    imported.module.verify()
    assert weights(imported) == ["first.weight.pruned_2_4", "second.0.weight.pruned_2_4", "first.weight.pruned_2_4"]
    pruned = imported.weights.get("first.weight.pruned_2_4")
    assert satisfies(pruned, Pattern(2, 4))
    np.testing.assert_array_equal(pruned, prune_by_magnitude(before, Pattern(2, 4)))
    np.testing.assert_array_equal(imported.weights.get("first.weight"), before)


def test_the_first_glob_that_matches_counts(imported: ImportedModel) -> None:
    given = {"second.*": Pattern(1, 4), "third": Pattern(1, 1), "*": Pattern(4, 8)}
    pruned = prune(imported.module, imported.weights, None, given)
    assert pruned == {"first": Pattern(4, 8), "second.0": Pattern(1, 4)}
    assert weights(imported) == ["first.weight.pruned_4_8", "second.0.weight.pruned_1_4", "first.weight"]


def test_globs_as_an_option(imported: ImportedModel) -> None:
    TorchPrunePass(patterns=("second.0=1:8",)).apply(CompileContext(imported.weights), imported.module)
    assert weights(imported) == ["first.weight", "second.0.weight.pruned_1_8", "first.weight"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("secnd.0=2:4", "no linear layer .* matches 'secnd.0'; did you mean 'second.0'"),
        ("second.0", "not of the form"),
        ("second.0=5:4", "."),
    ],
)
def test_what_cannot_be_meant(imported: ImportedModel, option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TorchPrunePass(patterns=(option,)).apply(CompileContext(imported.weights), imported.module)
