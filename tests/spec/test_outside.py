"""Additions of other packages: what cannot be used is one warning, or an error where it is asked for by name."""

import sys
from pathlib import Path

import pytest

from sta.spec.outside import TARGETS, OutsideError, load_all, load_one, names
from sta.spec.target import load_target, preset_names, target_names
from tests.support.ours_alone import sitecustomize
from tests.support.packages import Lay, warned

OURS = preset_names()

FASTER = """
import dataclasses
from sta.spec.target import load_target
FASTER = dataclasses.replace(load_target("sta-base"), name="acme-fast", clock_mhz=400)
"""


def test_a_target_of_another_package_is_a_preset(lay: Lay) -> None:
    lay("acme-sta", FASTER, {"sta.targets": {"acme-fast": "FASTER"}})
    assert target_names() == ["acme-fast", *OURS]
    assert load_target("acme-fast").clock_mhz == 400
    with pytest.raises(ValueError, match=r"unknown target 'acme-fst'; did you mean 'acme-fast'"):
        load_target("acme-fst")


def test_a_name_of_ours_stays_ours(lay: Lay) -> None:
    lay("acme-sta", FASTER, {"sta.targets": {"sta-base": "FASTER", "acme-fast": "FASTER"}})
    assert warned(target_names) == [
        "target 'sta-base' of package acme-sta: the toolchain has one of this name; it is left out"
    ]
    assert target_names() == ["acme-fast", *OURS]
    assert load_target("sta-base").clock_mhz == 200


def test_two_packages_with_one_name_are_both_left_out(lay: Lay) -> None:
    lay("acme-sta", FASTER, {"sta.targets": {"acme-fast": "FASTER"}})
    lay("bolt-sta", FASTER, {"sta.targets": {"acme-fast": "FASTER"}})
    clash = "target 'acme-fast' of package acme-sta: package bolt-sta adds one of this name too: uninstall one of them"
    assert warned(target_names) == [f"{clash}; both are left out"]
    assert target_names() == OURS
    with pytest.raises(OutsideError, match=f"^{clash}$"):
        load_target("acme-fast")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", r"acme_sta:FASTER failed \(ModuleNotFoundError: No module named 'no_such_module'\)"),
        ("raise SystemExit(3)", r"acme_sta:FASTER failed \(SystemExit: 3\)"),
        ("raise RuntimeError", r"acme_sta:FASTER failed \(RuntimeError\)"),
        ("OTHER = 1", r"acme_sta:FASTER failed \(AttributeError: .*has no attribute 'FASTER'\)"),
        ("FASTER = {'name': 'acme-fast'}", r"acme_sta:FASTER: a Target is expected, not dict"),
        (FASTER.replace('name="acme-fast"', 'name="other"'), r"acme_sta:FASTER: the target's name is 'other': .*"),
        (FASTER.replace("400", "-1"), r"acme_sta:FASTER failed \(ValueError: target key 'clock_mhz' must be .*-1\)"),
    ],
)
def test_one_that_cannot_be_used_names_its_package(lay: Lay, source: str, reason: str) -> None:
    lay("acme-sta", source, {"sta.targets": {"acme-fast": "FASTER"}})
    lay("bolt-sta", FASTER.replace("acme-fast", "bolt-fast"), {"sta.targets": {"bolt-fast": "FASTER"}})
    with pytest.warns(UserWarning, match=f"^target 'acme-fast' of package acme-sta: .*{reason}; it is left out$"):
        assert target_names() == ["bolt-fast", *OURS]
    assert warned(target_names) == [], "one warning is enough"
    with pytest.raises(OutsideError, match=f"^target 'acme-fast' of package acme-sta: .*{reason}$"):
        load_target("acme-fast")
    assert load_target("bolt-fast").name == "bolt-fast"


def test_names_are_known_without_loading(lay: Lay) -> None:
    lay("acme-sta", "raise RuntimeError", {"sta.targets": {"acme-fast": "FASTER"}})
    assert warned(lambda: names(TARGETS, OURS)) == []
    assert names(TARGETS, OURS) == ["acme-fast"]
    assert "acme_sta" not in sys.modules


def test_an_addition_of_another_group_is_none_of_this(lay: Lay) -> None:
    lay("acme-sta", FASTER, {"sta.passes": {"acme-fast": "FASTER"}})

    def accept(name: str, added: object) -> object:
        return added

    assert load_one(TARGETS, "acme-fast", accept) is None
    assert load_all(TARGETS, OURS, accept) == {}


def test_packages_of_the_environment_are_hidden_from_the_tests(
    lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay("acme-sta", FASTER, {"sta.targets": {"acme-fast": "FASTER"}})
    assert names(TARGETS, OURS) == ["acme-fast"]
    monkeypatch.setattr(sitecustomize, "FOLDERS", {tmp_path / "site"})
    assert names(TARGETS, OURS) == []
