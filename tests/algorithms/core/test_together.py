# SPDX-License-Identifier: Apache-2.0
"""One policy made of several: who is asked for what, what each remembers, and how it is written on the command line."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.play import play
from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.core.rulebook import rule_book
from edgegen.algorithms.core.together import Together, together
from edgegen.algorithms.rules.caching import make_provisioning_rule
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.world import World
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.cli import app
from edgegen.platform.runs.evaluation import evaluate

SMALL = {"frames": 2, "slots_per_frame": 3}
WORLD = load_scenario("t2drl-contended", SMALL)


class Counting(Policy):
    """Counts its turns under the same name as others of its kind do, and writes down what it is asked."""

    information = "nothing"

    def __init__(self, name: str, *roles: str) -> None:
        self.name, self.roles = name, frozenset(roles)
        self.asked: list[tuple[str, dict[str, float], bool]] = []
        super().__init__()

    def prepare(self, world: World) -> Memory:
        return {"turns": torch.zeros(world.copies)}

    def begin(self, role: str, view: Any) -> Memory:
        return {f"begun by {role}": torch.ones(1)}

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        self.asked.append((role, {name: float(value[0]) for name, value in memory.items()}, explore))
        rule = make_provisioning_rule("popular-static")
        return rule.act(role, view, {})[0], {**memory, "turns": memory["turns"] + 1}


def played(policy: Policy, explore: bool = True) -> None:
    world = ProvisioningWorld(WORLD, 2)
    world.reset(seed=1)
    play(world, policy, explore)


def test_every_role_is_asked_of_its_own_policy_which_has_its_own_memory() -> None:
    cacher, allocator = Counting("first", "cacher", "allocator"), Counting("second", "allocator")
    both = together(cacher=cacher, allocator=allocator)
    assert both.roles == {"cacher", "allocator"}
    assert both.name == "cacher=first allocator=second"
    assert both.information == "cacher: nothing; allocator: nothing"
    played(both, explore=False)
    assert cacher.asked == [("cacher", {"turns": frame, "begun by cacher": 1}, False) for frame in range(2)]
    assert allocator.asked == [("allocator", {"turns": slot, "begun by allocator": 1}, False) for slot in range(6)]


def test_memories_have_names_that_can_not_meet() -> None:
    both = together(cacher=Counting("first", "cacher"), allocator=Counting("second", "allocator"))
    world = ProvisioningWorld(WORLD, 2)
    memory = both.prepare(world) | both.begin("cacher", world.observe())
    assert sorted(memory) == ["allocator/turns", "cacher/begun by cacher", "cacher/turns"]
    _, after = both.act("cacher", world.observe(), memory)
    assert after["cacher/turns"].tolist() == [1, 1]
    assert after["allocator/turns"].tolist() == [0, 0]
    assert memory["cacher/turns"].tolist() == [0, 0]


def test_a_policy_that_is_given_two_roles_remembers_across_both() -> None:
    one = Counting("one", "cacher", "allocator")
    played(Together({"cacher": one, "allocator": one}))
    assert [memory["turns"] for _, memory, _ in one.asked] == list(range(8))


@pytest.mark.parametrize("parts", [{"cacher": make_rule("local")}, {"router": make_provisioning_rule("rcars")}])
def test_a_policy_that_has_not_the_role_is_refused(parts: dict[str, Policy]) -> None:
    (role, part), *_ = parts.items()
    with pytest.raises(ValueError, match=f"^the policy {part.name} does not decide for the role {role}$"):
        Together(parts)


@pytest.mark.parametrize("name", ["rcars", "popular-random", "popular-first-come", "schrs", "oracle-popularity"])
@pytest.mark.parametrize("roles", [("cacher", "allocator"), ("allocator", "cacher")])
def test_a_policy_together_with_itself_is_itself(name: str, roles: tuple[str, str]) -> None:
    scenario = load_scenario("t2drl-contended", {"frames": 2, "slots_per_frame": 1})
    alone = evaluate(scenario, make_policy(name, scenario, 5), 3, seed=2)
    twice = evaluate(scenario, make_policy(" ".join(f"{role}={name}" for role in roles), scenario, 5), 3, seed=2)
    assert alone.values.keys() == twice.values.keys()
    for metric, values in alone.values.items():
        np.testing.assert_array_equal(values, twice[metric], err_msg=metric)


def test_each_part_does_what_it_does_in_its_own_policy() -> None:
    results = {
        text: evaluate(WORLD, make_policy(text, WORLD, 3), 2, seed=2)
        for text in ("popular-recent", "popular-static-best", "cacher=popular-recent allocator=popular-static-best")
    }
    cached, best, both = results.values()
    assert both.policy == "cacher=popular-recent allocator=popular-static-best"
    np.testing.assert_array_equal(both["hit_ratio"], cached["hit_ratio"])
    assert (both["mean_cost"] < cached["mean_cost"]).all()  # the same cache, better divided
    assert (both["hit_ratio"] != best["hit_ratio"]).any()
    same = evaluate(WORLD, make_policy("popular-recent-best", WORLD), 2, seed=2)
    np.testing.assert_array_equal(both["mean_cost"], same["mean_cost"])


def test_the_seed_reaches_all_parts() -> None:
    rules = {name: make_provisioning_rule(name, seed) for seed, name in enumerate(("rcars", "popular-random"))}
    Together({"cacher": rules["rcars"], "allocator": rules["popular-random"]}, seed=9)
    for name, rule in rules.items():
        expected = make_provisioning_rule(name, 9).random((4,), torch.zeros(1))
        assert torch.equal(rule.random((4,), torch.zeros(1)), expected)


def test_a_text_names_a_policy_for_each_role() -> None:
    made = make_policy("cacher=rcars allocator=schrs", WORLD, 1)
    assert isinstance(made, Together)
    assert made.name == "cacher=rcars allocator=schrs"
    assert {role: part.name for role, part in made.parts.items()} == {"cacher": "rcars", "allocator": "schrs"}
    swapped = make_policy("allocator=schrs cacher=rcars", WORLD, 1)
    assert swapped.roles == made.roles
    assert make_policy("router=local", load_scenario("demo")).roles == {"router"}


class CacherOnly(Counting):
    """Has one role alone."""

    def __init__(self) -> None:
        super().__init__("keeper", "cacher")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "cacher=rcars",
            "Nobody decides for the role 'allocator' in scenario 't2drl-contended'; add allocator=POLICY.",
        ),
        (
            "cacher=rcars allocater=schrs",
            "'allocater=schrs' in the policy 'cacher=rcars allocater=schrs' must look like ROLE=POLICY; roles are "
            "cacher, allocator. Did you mean 'allocator'?",
        ),
        (
            "cacher=rcars schrs",
            "'schrs' in the policy 'cacher=rcars schrs' must look like ROLE=POLICY; roles are cacher, allocator.",
        ),
        (
            "cacher= allocator=schrs",
            "'cacher=' in the policy 'cacher= allocator=schrs' must look like ROLE=POLICY; roles are cacher, allocator."
            " Did you mean 'cacher'?",
        ),
        (
            "cacher=rcars cacher=schrs allocator=schrs",
            "The policy 'cacher=rcars cacher=schrs allocator=schrs' names the role 'cacher' twice.",
        ),
        (
            "cacher=rcars allocator=keeper",
            "The policy 'keeper' does not decide for the role 'allocator'; it does for cacher.",
        ),
    ],
)
def test_texts_that_name_no_policy(text: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    makers: Any = rule_book("provisioning").makers
    monkeypatch.setitem(makers, "keeper", lambda scenario, seed: CacherOnly())
    with pytest.raises(InputError) as refused:
        make_policy(text, WORLD)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cacher=local allocator=schrs", "'local' is for offloading, but scenario 't2drl-contended' is of the kind"),
        ("cacher=rcars allocator=scrhs", r"^Unknown policy 'scrhs'; give a rule \(.*Did you mean 'schrs'\?$"),
        ("router=local", "^Unknown policy 'router=local'"),  # no role of this world: it might be a folder
    ],
)
def test_what_is_wrong_with_a_part_is_said_of_the_part(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_policy(text, WORLD)


def test_evaluate_and_compare_take_policies_by_role() -> None:
    tiny = ["-s", "t2drl-contended", "--episodes", "2", *(f"--set={name}={value}" for name, value in SMALL.items())]
    text = "cacher=rcars allocator=popular-first-come"
    for command in (["evaluate", text], ["compare", text, "rcars"]):
        result = CliRunner().invoke(app, [*command, *tiny])
        assert result.exit_code == 0, result.output
        assert "cacher=rcars" in result.stdout
    refused = CliRunner().invoke(app, ["evaluate", "cacher=rcars", *tiny])
    assert refused.exit_code == 2
    assert "add allocator=POLICY" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
