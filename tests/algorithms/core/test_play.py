# SPDX-License-Identifier: Apache-2.0
"""The loop that plays every kind of world: what it asks of a policy and in what order, and that it adds nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.play import Turn, measuring, play
from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.world import World

SERVERS = load_scenario("demo", {"slots": 5})
CELLS = load_scenario("t2drl-contended:cells3", {"frames": 2, "slots_per_frame": 3})


def world_of(scenario: Any) -> World:
    """Three copies at the beginning of their episodes."""
    world: World = kind_of(scenario).world(scenario, 3)
    world.reset(seed=4)
    return world


class Recorder(Policy):
    """Does what a rule does, and writes down how it is called."""

    name = "recorder"

    def __init__(self, rule: Policy) -> None:
        self.rule, self.roles = rule, rule.roles
        self.calls: list[tuple[Any, ...]] = []
        super().__init__()

    def prepare(self, world: World) -> Memory:
        self.calls.append(("prepare", world.round))
        return {"turns": torch.zeros(world.copies)}

    def begin(self, role: str, view: Any) -> Memory:
        self.calls.append(("begin", role, view.frame))
        return {role: torch.ones(3)}

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        assert not torch.is_grad_enabled()
        self.calls.append(("act", role, int(memory["turns"][0]), sorted(memory), explore))
        return self.rule.act(role, view, {}, explore)[0], {**memory, "turns": memory["turns"] + 1}


def test_a_policy_is_asked_in_every_turn_and_carries_its_memory() -> None:
    recorder = Recorder(make_policy("rcars", CELLS))
    turns: list[Turn] = []
    play(world_of(CELLS), recorder, explore=False, watch=turns.append)
    both = ["allocator", "cacher", "turns"]
    assert recorder.calls == [
        ("prepare", 0),
        ("begin", "cacher", 0),
        ("act", "cacher", 0, ["cacher", "turns"], False),
        ("begin", "allocator", 0),
        *(("act", "allocator", turn, both, False) for turn in (1, 2, 3)),
        ("act", "cacher", 4, both, False),
        *(("act", "allocator", turn, both, False) for turn in (5, 6, 7)),
    ]
    assert [turn.role for turn in turns] == (["cacher"] + ["allocator"] * 3) * 2
    for turn in turns:
        assert turn.view.frame in (0, 1)
        assert (turn.action.dtype == torch.bool) == (turn.role == "cacher")
    assert ["cacher" in turn.outcome.rewards for turn in turns] == [False, False, False, True] * 2


@pytest.mark.parametrize(
    ("scenario", "stranger", "role"), [(SERVERS, "rcars", "router"), (CELLS, "local", "allocator")]
)
def test_a_policy_without_a_role_of_the_world_is_refused(scenario: Any, stranger: str, role: str) -> None:
    recorder = Recorder(make_policy(stranger, CELLS if scenario is SERVERS else SERVERS))
    world = world_of(scenario)
    before = str(world.state_dict())
    with pytest.raises(ValueError, match=f"^the policy recorder does not decide for the role {role}$"):
        play(world, recorder)
    assert recorder.calls == []  # noticed before anything was asked
    assert str(world.state_dict()) == before


@pytest.mark.parametrize("name", ["capacity-weighted", "round-robin", "least-delay", "opt-ts"])
def test_offloading_is_a_loop_written_by_hand(name: str) -> None:
    turns: list[Turn] = []
    played = world_of(SERVERS)
    play(played, make_policy(name, SERVERS, seed=7), watch=turns.append)
    world, policy = world_of(SERVERS), make_policy(name, SERVERS, seed=7)
    memory = policy.begin("router", world.observe())
    while not world.done:
        action, memory = policy.act("router", world.observe(), memory)
        outcome, turn = world.decide(action), turns.pop(0)
        assert torch.equal(turn.action, action)
        assert torch.equal(turn.outcome.delays.total_s, outcome.delays.total_s)
    assert turns == []
    assert torch.equal(played.state_dict()["backlog_gcycles"], world.state_dict()["backlog_gcycles"])
    assert played.done


@pytest.mark.parametrize("name", ["rcars", "popular-random", "popular-recent-best", "oracle-popularity"])
def test_provisioning_is_a_loop_written_by_hand(name: str) -> None:
    turns: list[Turn] = []
    played = world_of(CELLS)
    play(played, make_policy(name, CELLS, seed=7), watch=turns.append)
    world, policy = world_of(CELLS), make_policy(name, CELLS, seed=7)
    memory = policy.prepare(world)
    for _ in range(CELLS.frames):
        cache, memory = policy.act("cacher", world.observe(), memory)
        world.decide(cache)
        assert torch.equal(turns.pop(0).action, cache)
        for _ in range(CELLS.slots_per_frame):
            shares, memory = policy.act("allocator", world.observe(), memory)
            outcome, turn = world.decide(shares), turns.pop(0)
            assert torch.equal(turn.action, shares)
            assert torch.equal(turn.outcome.cost, outcome.cost)
    assert turns == []
    assert played.done
    assert world.done


@pytest.mark.parametrize(("scenario", "name"), [(SERVERS, "uniform"), (CELLS, "popular-static")])
def test_a_meter_measures_what_is_played(scenario: Any, name: str) -> None:
    kind, world = kind_of(scenario), world_of(scenario)
    meter = kind.meter(world)
    play(world, make_policy(name, scenario), watch=measuring(meter))
    values = meter.values()
    assert all(len(values[metric]) == 3 for metric in kind.metrics)
    assert (meter.headline() == values[kind.metric]).all()  # where nothing is charged beside the cost itself
