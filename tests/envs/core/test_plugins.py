# SPDX-License-Identifier: Apache-2.0
"""Plugins: what is named by reference is known by its own name, and what does not fit is one sentence."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from edgegen.algorithms.core import rulebook
from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.rulebook import rule_book, rules_for
from edgegen.algorithms.methods.known import METHODS
from edgegen.algorithms.methods.registry import find_method
from edgegen.envs.core import plugins
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import KINDS, kinds
from edgegen.envs.core.plugins import PLUGINS_VARIABLE, import_plugins, is_reference, plugged, with_plugins
from edgegen.envs.core.scenario_files import SCENARIO_FOLDER
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.runs.evaluation import evaluate

HEAD = """
import torch
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.tunable import Constants, constant

class Mine(Policy):
    name, kind, roles, information = "mine", "offloading", frozenset({"router"}), "nothing"

    def act(self, role, view, memory, explore=True):
        return torch.zeros(view.tasks.present.shape, dtype=torch.int64), memory
"""


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test plugs in is forgotten at its end."""
    for module, name, empty in (
        (plugins, "_names", {}),
        (plugins, "_done", set()),
        (rulebook, "_ADDED", {}),
        (KINDS, "entries", {}),
        (METHODS, "entries", dict(METHODS.entries)),
        (sys, "path", list(sys.path)),
    ):
        monkeypatch.setattr(module, name, empty)
    for variable in (PLUGINS_VARIABLE, "PYTHONPATH"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    yield
    for own in ("my_rules", "my_world"):
        sys.modules.pop(own, None)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file with the rule Mine and whatever is added, in the working folder."""
    monkeypatch.chdir(tmp_path)

    def written(more: str = "", name: str = "my_rules.py", head: str = HEAD) -> Path:
        path = tmp_path / name
        path.write_text(head + more)
        return path

    return written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mine.py:Mine", True),
        ("~/my rules/mine.py:Mine", True),
        ("package.module:Mine", True),
        ("module:Mine", True),
        ("least-delay", False),
        ("fleet-8:scarce", False),
        ("models:/mine@champion", False),
        ("runs/mine", False),
        ("mine.py", False),
        ("mine.py:", False),
        ("mine.py:3", False),
        ("router=a cacher=b", False),
    ],
)
def test_what_a_reference_looks_like(text: str, expected: bool) -> None:
    assert is_reference(text) is expected


def test_a_rule_is_known_by_its_own_name_in_this_process_and_in_others(write: Write) -> None:
    path = write()
    assert plugged("my_rules.py:Mine") == "mine"
    assert plugged(f"{path}:Mine") == "mine"
    assert os.environ[PLUGINS_VARIABLE] == f"{path}:Mine"
    assert str(path.parent) in os.environ["PYTHONPATH"].split(os.pathsep)
    demo = load_scenario("demo")
    assert rules_for(demo)[-1] == "mine"
    assert make_policy("mine", demo).name == make_policy("my_rules.py:Mine", demo).name == "mine"
    assert plugged("least-delay") == "least-delay"


def test_the_environment_alone_makes_it_known(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    monkeypatch.setenv(PLUGINS_VARIABLE, "json, my_rules.py:Mine")
    assert "mine" in rule_book("offloading").makers
    monkeypatch.chdir("/")  # from where a process may start whose folder is another one
    import_plugins()
    assert os.environ[PLUGINS_VARIABLE] == f"json,{path}:Mine"


def test_a_rule_plays_like_the_same_rule_of_the_package(write: Write) -> None:
    path = write(
        "from edgegen.algorithms.rules.routing import LeastDelay\n"
        "class Copy(LeastDelay):\n    name, kind = 'copy', 'offloading'\n"
    )
    demo = load_scenario("demo", {"slots": 5})
    found = [evaluate(demo, make_policy(name, demo), 3, 7).values for name in (f"{path}:Copy", "least-delay")]
    assert found[0]["mean_delay_s"].tolist() == found[1]["mean_delay_s"].tolist()
    combined = make_policy(f"router={path}:Copy", demo)
    assert evaluate(demo, combined, 3, 7).values["mean_delay_s"].tolist() == found[1]["mean_delay_s"].tolist()
    fleet = load_scenario("fleet-8")
    with pytest.raises(InputError, match=r"^The policy 'copy' is for offloading, but scenario 'fleet-8' is of"):
        make_policy(f"{path}:Copy", fleet)


def test_what_its_constructor_takes_is_given(write: Write) -> None:
    path = write(
        """
class Weight(Constants):
    weight: float = constant(2.5, 0.0, 5.0)

class Tuned(Mine):
    name, constants = "tuned", Weight
    def __init__(self, scenario, constants, *, seed, more=3):
        super().__init__(seed)
        self.given = (scenario.name, constants.weight, more)
"""
    )
    demo = load_scenario("demo")
    made = make_policy(f"{path}:Tuned", demo, 5)
    assert made.rule.given == ("demo", 2.5, 3)  # type: ignore[attr-defined]
    book = rule_book("offloading")
    other = book.tunable["tuned"].make(demo, book.tunable["tuned"].constants.model_validate({"weight": 1.0}), 0)
    assert other.rule.given == ("demo", 1.0, 3)  # type: ignore[attr-defined]
    drawn = [policy.random((3,), torch.zeros(())) for policy in (made, make_policy(f"{path}:Tuned", demo, 5))]
    assert drawn[0].tolist() == drawn[1].tolist()


def test_kinds_and_methods_are_known_by_their_own_names(write: Write, tmp_path: Path) -> None:
    path = write(
        """
import dataclasses
from typing import Literal
from edgegen.algorithms.methods.ladts import METHOD
from edgegen.envs.offloading.kind import KIND
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld

class ErrandsScenario(OffloadingScenario):
    kind: Literal["errands"] = "errands"

class ErrandsWorld(OffloadingWorld):
    kind = "errands"

WORLD = dataclasses.replace(KIND, name="errands", scenario=ErrandsScenario, world=ErrandsWorld, reference="stay")
LEARNER = dataclasses.replace(METHOD, name="learner", kind_name="errands")

class Stay(Mine):
    name, kind = "stay", "errands"
""",
        "my_world.py",
    )
    with pytest.raises(InputError, match=r"The kind_name of the method '.*' is 'errands', but must be"):
        find_method(f"{path}:LEARNER")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    demo = yaml.safe_load((SCENARIO_FOLDER / "demo.yaml").read_text())
    (folder / "own.yaml").write_text(yaml.safe_dump({**demo, "kind": "../my_world.py:WORLD", "slots": 4}))
    world = load_scenario(folder / "own.yaml")
    assert (world.kind, list(kinds())[-1]) == ("errands", "errands")
    assert find_method(f"{path}:LEARNER").kind.name == "errands"
    assert evaluate(world, make_policy(f"{path}:Stay", world), 2, 0).values["mean_delay_s"].shape == (2,)


def test_references_in_files_are_looked_for_beside_them(write: Write, tmp_path: Path) -> None:
    write("class Other(Mine):\n    name = 'other'\n")
    file = tmp_path / "study" / "mine.yaml"
    file.parent.mkdir()
    data = {"rules": ["least-delay", "../my_rules.py:Mine"], "parts": [{"rules": "../my_rules.py:Other", "n": 3}]}
    assert with_plugins(data, file, ("rules",)) == {
        "rules": ["least-delay", "mine"],
        "parts": [{"rules": "other", "n": 3}],
    }


@pytest.mark.parametrize(
    ("more", "name", "sentence"),
    [
        ("", "Mien", "can not be used: its module has no 'Mien'. Did you mean 'Mine'?"),
        ("thing = 3\n", "thing", "is of the type int, but must be a rule (a class derived from Policy), a method"),
        ("class Thing: pass\n", "Thing", "is the class Thing, but must be a rule"),
        ("class Lazy(Policy):\n    name = 'lazy'\n", "Lazy", "the rule Lazy lacks the method act."),
        ("class Nobody(Mine):\n    name = 'policy'\n", "Nobody", "has the name 'policy', but must have one of its own"),
        ("class Nobody(Mine):\n    name = 'a b'\n", "Nobody", "has the name 'a b', but must have one of its own"),
        ("class Homeless(Mine):\n    name, kind = 'x', ''\n", "Homeless", "does not say for which kind of world it is"),
        ("class Lost(Mine):\n    name, kind = 'x', 'ofloading'\n", "Lost", "kind of the rule Lost is 'ofloading'"),
        ("class Idle(Mine):\n    name, roles = 'x', frozenset()\n", "Idle", "must have a set of those of offloading"),
        ("class Idle(Mine):\n    name, roles = 'x', {'cacher'}\n", "Idle", "must have a set of those of offloading"),
        ("class Taken(Mine):\n    name = 'least-delay'\n", "Taken", "There is a rule 'least-delay' for worlds of the"),
        (
            "class Odd(Mine):\n    name = 'x'\n    def __init__(self, world): pass\n",
            "Odd",
            "is made with 'world', but can",
        ),
        (
            "class Odd(Mine):\n    name, constants = 'x', 3\n",
            "Odd",
            "constants of the rule Odd is 3, but must be a",
        ),
        (
            "class C(Constants):\n    a: float = 3.0\nclass Odd(Mine):\n    name, constants = 'x', C\n",
            "Odd",
            "'a' of C must be made with constant or choice",
        ),
        ("import nowhere\n", "Mine", "can not be imported: No module named 'nowhere'."),
        ("1 / 0\n", "Mine", "fails when it is imported: ZeroDivisionError: division by zero (my_rules.py, line 11)."),
        ("def (:\n", "Mine", "fails when it is imported: SyntaxError: invalid syntax (my_rules.py, line 11)."),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(write: Write, more: str, name: str, sentence: str) -> None:
    write(more)
    for _ in range(2):
        with pytest.raises(InputError) as refused:
            plugged(f"my_rules.py:{name}")
        assert str(refused.value).startswith(f"The plugin 'my_rules.py:{name}' ")
        assert sentence in str(refused.value)
        assert "\n" not in str(refused.value)
    assert os.environ[PLUGINS_VARIABLE] == ""
    assert "x" not in rule_book("offloading").makers


def test_files_that_can_be_no_module_are_refused_in_a_sentence(write: Write) -> None:
    write(name="my-rules.py")
    write(name="json.py")
    for reference, sentence in (
        ("my-rules.py:Mine", "can not be imported: 'my-rules.py' must be named like a variable of Python."),
        ("json.py:Mine", "can not be imported: there is another module 'json' already; give the file another name."),
        ("my_rule.py:Mine", "There is no plugin file 'my_rule.py'."),
        ("nowhere.at_all:Mine", "can not be imported: No module named 'nowhere'."),
    ):
        with pytest.raises(InputError) as refused:
            plugged(reference)
        assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        ("1 / 0", "fails when it is asked to act: ZeroDivisionError: division by zero (my_rules.py, line 14)."),
        ("return None", "must return a tensor and the memory, but returns None."),
        ("return 3, memory", "must return a tensor and the memory, but returns (3, of the type dict)."),
        ("return torch.zeros(3), 4", "must map names to tensors, but is 4."),
        ("return torch.zeros(3), memory", "is impossible: actions have shape (3,), expected (2, 5, "),
        (
            "return torch.full(view.tasks.present.shape, 9), memory",
            "for the role 'router' is impossible: a task was sent to a server outside 0..4.",
        ),
    ],
)
def test_a_rule_that_fails_is_told_in_a_sentence(write: Write, act: str, sentence: str) -> None:
    write(f"class Bad(Mine):\n    name = 'bad'\n    def act(self, role, view, memory, explore=True):\n        {act}\n")
    demo = load_scenario("demo", {"slots": 3})
    for name in ("my_rules.py:Bad", "router=my_rules.py:Bad"):
        with pytest.raises(InputError) as refused:
            evaluate(demo, make_policy(name, demo), 2, 0)
        assert sentence in str(refused.value)
        assert "the rule 'bad' of " in str(refused.value).replace("The rule", "the rule")
