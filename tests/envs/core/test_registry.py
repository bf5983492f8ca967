# SPDX-License-Identifier: Apache-2.0
"""Registries: entries are imported when they are asked for, and a name is taken once."""

import sys
from pathlib import Path

import pytest

from edgegen.algorithms.core.rulebook import BOOKS, RuleBook, register_rules, rule_book
from edgegen.algorithms.methods.known import METHODS
from edgegen.algorithms.methods.registry import methods, register
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kinds
from edgegen.envs.core.plugins import PLUGINS_VARIABLE
from edgegen.envs.core.registry import Registry


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    """A registry with one entry that comes along, in a module that nobody has imported yet."""
    (tmp_path / "far_apple.py").write_text("FRUIT = 'apple, 3 days old'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "far_apple", raising=False)
    return Registry("fruit", {"apple": "far_apple:FRUIT"})


def test_names_are_known_before_anything_is_imported(fruits: Registry[str]) -> None:
    pear = "pear, picked today"
    assert fruits.register("pear", pear) is pear
    assert fruits.names() == ["apple", "pear"]
    assert "far_apple" not in sys.modules
    assert fruits.get("apple") == "apple, 3 days old"
    assert fruits.get("plum") is None
    assert fruits.all() == {"apple": "apple, 3 days old", "pear": pear}


def test_a_name_is_taken_once(fruits: Registry[str]) -> None:
    pear = "pear, picked today"
    for _ in range(2):
        assert fruits.register("pear", pear) is pear
    with pytest.raises(InputError, match=r"^There is a fruit 'pear' already\.$"):
        fruits.register("pear", "pear, picked yesterday")
    # Also a name of the package that nobody has asked for yet.
    with pytest.raises(InputError, match=r"^There is a fruit 'apple' already\.$"):
        fruits.register("apple", "another apple")
    assert fruits.get("apple") == "apple, 3 days old"


def test_rules_and_methods_of_the_package_can_not_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (BOOKS, METHODS):
        monkeypatch.setattr(registry, "entries", {})
    with pytest.raises(InputError, match=r"^There is a rule book of the kind 'offloading' already\.$"):
        register_rules("offloading", RuleBook({}))
    assert "least-delay" in rule_book("offloading").makers
    known = methods()["ladts"]
    assert register(known) is known
    with pytest.raises(InputError, match=r"^There is a method 'ladts' already\.$"):
        METHODS.register("ladts", methods()["t2drl"])


def test_a_plugin_that_takes_a_taken_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greedy_plugin.py").write_text(
        "from edgegen.algorithms.core.rulebook import RuleBook, register_rules\n"
        "register_rules('provisioning', RuleBook({}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS_VARIABLE, "greedy_plugin")
    for _ in range(2):
        with pytest.raises(InputError) as refused:
            kinds()
        assert str(refused.value) == (
            "EDGEGEN_PLUGINS names the module 'greedy_plugin', which can not be used: "
            "There is a rule book of the kind 'provisioning' already."
        )
