# SPDX-License-Identifier: Apache-2.0
"""The registry of kinds: what is in it, what it refuses, and how kinds from elsewhere come in."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgegen.algorithms.core.rulebook import kinds_with_rule, rule_book
from edgegen.algorithms.methods.registry import methods, methods_for
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import KINDS, kind_named, kind_of, kinds, register
from edgegen.envs.core.plugins import PLUGINS_VARIABLE
from edgegen.envs.core.scenario_files import SCENARIO_FOLDER
from edgegen.envs.core.scenarios import build_scenario, load_scenario, scenario_names
from edgegen.envs.core.world import WorldScenario
from edgegen.envs.offloading.kind import KIND as OFFLOADING

BOTH = "but must be offloading or provisioning or fleet"

PLUGIN = '''
"""A kind like offloading, under another name."""

import dataclasses
from typing import Literal

from edgegen.algorithms.core.rulebook import RuleBook, register_rules
from edgegen.algorithms.rules.routing import Local, Uniform
from edgegen.envs.core.kinds import register
from edgegen.envs.offloading.kind import KIND
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld


class Scenario(OffloadingScenario):
    kind: Literal["errands"] = "errands"


class World(OffloadingWorld):
    kind = "errands"


rules = {"stay": lambda scenario, seed: Local(seed), "uniform": lambda scenario, seed: Uniform(seed)}
register_rules("errands", RuleBook(rules))
register(dataclasses.replace(KIND, name="errands", scenario=Scenario, world=World, reference="stay"))
'''


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten at its end."""
    monkeypatch.setattr(KINDS, "entries", {})


def test_the_kinds_of_the_package_come_first() -> None:
    assert list(kinds())[:3] == ["offloading", "provisioning", "fleet"]
    for name, kind in kinds().items():
        assert kind.name == name
        assert kind.scenario.model_fields["kind"].default == kind.world.kind == name
        assert load_scenario(kind.default_scenario).kind == name
        assert kind.metric in kind.metrics
        assert kind.reference in rule_book(name).makers
        assert kind.ceiling is None or kind.ceiling in rule_book(name).makers


def test_a_kind_is_found_by_its_name_and_by_a_scenario() -> None:
    assert kind_named("offloading") is OFFLOADING
    assert kind_of(load_scenario("demo")) is OFFLOADING
    assert kind_of(load_scenario("t2drl-default")).name == "provisioning"


class Fleet(WorldScenario):
    """A scenario of a kind that nobody has registered."""

    kind: str = "armada"
    name: str = "mine"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("armada", f"The kind is 'armada', {BOTH}."),
        ("ofloading", f"The kind is 'ofloading', {BOTH}. Did you mean 'offloading'?"),
        ("", f"The kind is '', {BOTH}."),
        (None, f"The kind is None, {BOTH}."),
        (3, f"The kind is 3, {BOTH}."),
        (["offloading"], f"The kind is ['offloading'], {BOTH}."),
    ],
)
def test_an_unknown_kind_is_refused_in_one_sentence(name: Any, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        kind_named(name)
    assert str(refused.value) == sentence


def test_an_unknown_kind_is_refused_wherever_it_is_met(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^The kind is 'armada', {BOTH}"):
        kind_of(Fleet())
    with pytest.raises(InputError, match=f"^Scenario 'mine': the field 'kind' is 'armada', {BOTH}"):
        build_scenario({"kind": "armada", "name": "mine"})
    path = tmp_path / "mine.yaml"
    path.write_text("kind: armada\nextends: demo\n")
    with pytest.raises(InputError, match=f"^Scenario file '{path}': the field 'kind' is 'armada', {BOTH}"):
        load_scenario(path)
    with pytest.raises(InputError, match=f"^The kind is 'armada', {BOTH}"):
        rule_book("armada")
    assert methods_for("armada") == []
    assert kinds_with_rule("armada") == []
    assert scenario_names("armada") == []


def test_registering_twice_is_registering_once_and_names_are_taken_once(apart: None) -> None:
    mine = dataclasses.replace(OFFLOADING, name="mine")
    assert register(mine) is mine
    assert register(mine) is mine
    assert list(kinds()) == ["offloading", "provisioning", "fleet", "mine"]  # whoever came first
    with pytest.raises(InputError, match=r"^There is a kind 'mine' already\.$"):
        register(dataclasses.replace(OFFLOADING, name="mine"))
    with pytest.raises(InputError, match=r"^There is a kind 'offloading' already\.$"):
        register(dataclasses.replace(OFFLOADING))
    assert kind_named("mine") is mine


def test_a_kind_may_have_no_rules(apart: None) -> None:
    register(dataclasses.replace(OFFLOADING, name="mine"))
    assert rule_book("mine").makers == {}
    assert kinds_with_rule("least-delay") == ["offloading"]


def test_a_plugin_that_can_not_be_imported_is_named_every_time(apart: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS_VARIABLE, "json, nowhere_at_all")
    for look_up in (kinds, kinds, methods, lambda: kind_named("offloading")):
        with pytest.raises(InputError) as refused:
            look_up()
        assert str(refused.value) == (
            "EDGEGEN_PLUGINS names the module 'nowhere_at_all', which can not be imported: "
            "No module named 'nowhere_at_all'."
        )
    monkeypatch.setenv(PLUGINS_VARIABLE, " , json,")
    assert list(kinds()) == ["offloading", "provisioning", "fleet"]


def in_a_new_process(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder with the plugin, which the environment names, and a scenario of its kind."""
    (folder / "errands_plugin.py").write_text(PLUGIN)
    (folder / "market.yaml").write_text("kind: errands\n" + (SCENARIO_FOLDER / "demo.yaml").read_text())
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path, PLUGINS_VARIABLE: "errands_plugin"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_plugin_brings_a_kind_to_every_command(tmp_path: Path) -> None:
    code = (
        "from edgegen.envs.core.kinds import kinds; from edgegen.envs.core.scenarios import load_scenario; "
        "from edgegen.algorithms.core.rulebook import rules_for; "
        "print(list(kinds()), type(load_scenario('market.yaml')).__module__, rules_for(load_scenario('market.yaml')))"
    )
    done = in_a_new_process(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['offloading', 'provisioning', 'fleet', 'errands'] errands_plugin ['stay', 'uniform']\n"
    tiny = ("-s", "market.yaml", "--set", "slots=3", "--episodes", "2")
    compared = in_a_new_process(tmp_path, "-m", "edgegen.platform.cli", "compare", *tiny)
    assert compared.returncode == 0, compared.stderr
    assert "uniform" in compared.stdout
    assert "reference" in compared.stdout
    refused = in_a_new_process(tmp_path, "-m", "edgegen.platform.cli", "compare", "least-delay", *tiny)
    assert refused.returncode == 2
    assert "'least-delay' is for offloading, but scenario 'market' is of the kind errands" in refused.stderr
    assert "rules for it are stay, uniform." in refused.stderr
