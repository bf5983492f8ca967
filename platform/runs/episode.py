# SPDX-License-Identifier: Apache-2.0
"""One episode, played turn by turn by one policy or several, and all that happened in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgegen.algorithms.core.play import Turn, measuring, play
from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Values, kind_of, kinds
from edgegen.envs.core.timeline import Record
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.runs.episodes import evaluation_seed

MOST_REQUESTS = 100_000
"""Most requests of an episode that is shown; a page of as many is some 20 MB."""


@dataclass(frozen=True)
class Played:
    """An episode as one policy played it.

    Attributes:
        label: What the policy is called.
        information: What it uses beyond the requests of its own site.
        record: What happened.
        values: What the meter of the kind of world measured, arrays of one value by name.
    """

    label: str
    information: str
    record: Record
    values: Values


@dataclass(frozen=True)
class Episode:
    """One evaluation episode, and how each policy played it.

    Attributes:
        scenario: The world.
        seed: The person's seed.
        number: Number of the episode.
        played: By each policy, on the same arrivals.
    """

    scenario: WorldScenario
    seed: int
    number: int
    played: tuple[Played, ...]


def check_shown(scenario: WorldScenario) -> None:
    """Refuse a world whose episodes can not be shown.

    Raises:
        InputError: If its kind keeps no timeline.
    """
    if kind_of(scenario).timeline is None:
        shown = " or ".join(name for name, kind in kinds().items() if kind.timeline is not None)
        raise InputError(
            f"Scenario '{scenario.name}' is of the kind {scenario.kind}, but only episodes of the kind {shown} can be "
            "shown."
        )


def play_episode(
    scenario: WorldScenario,
    policies: Mapping[str, Policy],
    number: int = 0,
    seed: int = 0,
    explore: bool = True,
    on_policy: Callable[[str], None] | None = None,
) -> Episode:
    """Let every policy play the same evaluation episode, and record what happens.

    The arrivals are those of the same episode in ``edgegen compare`` with this seed, and so is what rules make of them.
    A trained policy that samples draws other numbers there, because it plays many episodes at once.

    Args:
        scenario: The world.
        policies: Policies by label.
        number: Number of the episode, from 0.
        seed: The person's seed.
        explore: Sample actions of trained policies; otherwise take the most likely ones.
        on_policy: Called with each label before it plays.

    Raises:
        InputError: If the kind keeps no timeline, the episode has no requests, or more than can be shown.
    """
    check_shown(scenario)
    played = []
    for label, policy in policies.items():
        if on_policy is not None:
            on_policy(label)
        played.append(_played(scenario, label, policy, number, seed, explore))
    return Episode(scenario, seed, number, tuple(played))


def _played(scenario: WorldScenario, label: str, policy: Policy, number: int, seed: int, explore: bool) -> Played:
    kind = kind_of(scenario)
    assert kind.timeline is not None
    policy.seed(seed)
    world = kind.world(scenario, 1)
    world.reset(evaluation_seed(seed), number)
    timeline, meter = kind.timeline(world), kind.meter(world)
    measure = measuring(meter)

    def watch(turn: Turn) -> None:
        measure(turn)
        timeline.add(turn.role, turn.view, turn.outcome)

    play(world, policy, explore, watch)
    values, record = meter.values(), timeline.record()
    requests = len(record.arrivals["arrival_s"])
    if requests > MOST_REQUESTS:
        raise InputError(
            f"Episode {number} of scenario '{scenario.name}' has {requests} requests, but at most {MOST_REQUESTS} can "
            "be shown; shorten it."
        )
    return Played(label, policy.information, record, values)
