# SPDX-License-Identifier: Apache-2.0
"""Kinds of worlds: the one place that knows which there are, and what is different about each.

A kind is one entry of a registry (:mod:`edgegen.envs.core.registry`). Others than those of the package are added with
:func:`register`, by a module that the environment variable ``EDGEGEN_PLUGINS`` names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.agents import Agents, PlainAgents
from edgegen.envs.core.batched import BatchedAgents
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.objectives import terms_of
from edgegen.envs.core.plugins import plugged
from edgegen.envs.core.registry import Registry
from edgegen.envs.core.timeline import Timeline
from edgegen.envs.core.world import World, WorldScenario

DEFAULT_KIND = "offloading"
"""Kind of a file that does not say it."""

SHIPPED = ("offloading", "provisioning", "fleet")
"""Names of the kinds that come with the package; rooms that keep a module for each find it by this name."""

KINDS: Registry[Kind] = Registry("kind", {name: f"edgegen.envs.{name}.kind:KIND" for name in SHIPPED})
"""The registry."""

Array = NDArray[np.float64]
Traits = Mapping[str, tuple[float, float]]
"""Least and largest value by name."""
Values = dict[str, Any]
"""Arrays ``[E]`` by name, one value per episode."""


class Meter(ABC):
    """Measures what becomes of the episodes of a world while it is played.

    Args:
        world: A freshly reset world.
    """

    @abstractmethod
    def __init__(self, world: World) -> None: ...

    @abstractmethod
    def add(self, role: str, view: Any, outcome: Any) -> None:
        """Take a turn into account: whose it was, what was seen, and what came of it."""

    @abstractmethod
    def headline(self) -> Array:
        """What a learning curve shows of each episode ``[E]``, as learners report it."""

    @abstractmethod
    def values(self) -> Values:
        """Return what was measured, one value per episode.

        Raises:
            InputError: If an episode has nothing to measure.
        """


@dataclass(frozen=True)
class Measure:
    """A quantity that a table shows beside the metric that decides.

    Attributes:
        title: Heading, with the unit.
        metric: Name of the quantity among the values of a meter.
        decimals: Digits after the point; None for as many as the metric that decides has.
        factor: What the values are multiplied by.
        if_any: Shown only if some value is not zero.
    """

    title: str
    metric: str
    decimals: int | None = 2
    factor: float = 1.0
    if_any: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the list of scenarios.

    Attributes:
        title: Heading.
        text: From a scenario to what stands there.
    """

    title: str
    text: Callable[[Any], str]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Everything that differs from one kind of world to another.

    Attributes:
        name: Name of the kind, as ``kind`` in files and as the environment in the layout of marl-eval.
        scenario: Model of its scenarios.
        world: Class of its worlds, made of ``(scenario, copies, device)``.
        meter: What measures its episodes.
        timeline: What records an episode of a world of one copy for a picture; None if there is no picture of them.
        agents: What turns a world of one copy into agents for other libraries; arguments beyond the world are its own.
        default_scenario: The scenario of commands that are told none.
        batched: What turns a world of many copies into agents of all of them, of ``(world, normalise, identity)``; None
            where they take turns.
        entries: From a scenario to the entries of the largest tensor of an episode; bounds how many are played at once.
        size: From a scenario to what of its size is worth a column in a table of runs.
        rounds: From a scenario to the rounds of an episode; a round begins with the turn of the slowest role.
        slots_per_round: From a scenario to the slots of a round.
        shape: From a scenario to the numbers that policies are bound to, by name in the plural.
        effort: From a scenario to what decides how long an episode takes.
        traits: From a scenario to what policies get used to, by name in the plural: least and largest value.
        metric: The metric that decides, by name among the values of the meter; lower is better.
        quantity: What that is called in tables.
        axis: What it is called on the axis of a plot.
        suffix: Its unit as in names, for example ``_s``.
        unit: Its unit as in headings, for example ``, s``.
        interval_name: What its interval is called in files.
        paired_by: What is identical for all policies.
        seed_name: What the seed of the simulator is called in files.
        counted: What is counted in an episode, by name: a value of the meter, or given by ``constant``.
        constant: From a scenario to numbers that all its episodes share, by name.
        reference: The rule a learned policy has to beat to be worth its cost.
        ceiling: The policy that no other can beat, if there is one.
        averaged: What means are taken over, as a sentence.
        metrics: All metrics, one value per episode each.
        gains: Those of which more is better.
        shown: Further columns of a comparison.
        detailed: Further rows of an evaluation; parts of the row above are indented.
        columns: Columns of the list of scenarios.
        caption: What stands below that list.
        descriptions_apart: Whether descriptions stand below it, where there is no room for a column of them.
        judged: What else is different where a scenario names terms of its objective, by the names of these attributes.
    """

    name: str
    scenario: type[WorldScenario]
    world: Any
    meter: type[Meter]
    timeline: type[Timeline] | None = None
    agents: Callable[..., Agents] = PlainAgents
    batched: Callable[..., BatchedAgents] | None = None
    default_scenario: str
    entries: Callable[[Any], int]
    size: Callable[[Any], Mapping[str, Any]]
    rounds: Callable[[Any], int]
    slots_per_round: Callable[[Any], int] = field(default=lambda scenario: 1)
    shape: Callable[[Any], Mapping[str, int]]
    effort: Callable[[Any], tuple[int, ...]]
    traits: Callable[[Any], Traits] = field(default=lambda scenario: {})
    metric: str
    quantity: str
    axis: str
    suffix: str = ""
    unit: str = ""
    interval_name: str
    paired_by: str
    seed_name: str
    counted: str
    constant: Callable[[Any], Mapping[str, int]] = field(default=lambda scenario: {})
    reference: str
    ceiling: str | None = None
    averaged: str
    metrics: tuple[str, ...]
    gains: tuple[str, ...] = ()
    shown: tuple[Measure, ...] = ()
    detailed: tuple[Measure, ...] = ()
    columns: tuple[Column, ...] = ()
    caption: str = ""
    descriptions_apart: bool = False
    judged: Mapping[str, Any] = field(default_factory=dict)

    def with_terms(self, names: Collection[str]) -> Kind:
        """Return the kind as it is for scenarios whose objective names some terms: what is reported and shown."""
        if not names:
            return self
        known = terms_of(getattr(self.scenario, "judged_as", self.name))
        amounts = [Measure(term.title, term.metric, 4) for name in names if (term := known.get(name)) and term.metric]
        parts = [term for term in known.values() if term.usual or term.name in names]
        changed = replace(self, **self.judged)
        return replace(
            changed,
            metrics=(*changed.metrics, *(part.part for part in parts), *(amount.metric for amount in amounts)),
            shown=(*changed.shown, *amounts),
            detailed=(
                *changed.detailed,
                *amounts,
                *(Measure(f"{changed.quantity}: {part.name}", part.part, 4) for part in parts),
            ),
        )


def register(kind: Kind) -> Kind:
    """Add a kind; registering the same one again changes nothing.

    Raises:
        InputError: If there is another kind of this name.
    """
    return KINDS.register(kind.name, kind)


def adopt(plugin: Any, reference: str) -> str | None:
    """Register a plugin if it is a kind; returns its name, or None if it is something else."""
    del reference
    return register(plugin).name if isinstance(plugin, Kind) else None


def kinds() -> dict[str, Kind]:
    """Return all kinds by name, those of the package first.

    Raises:
        InputError: If a plugin can not be used.
    """
    return KINDS.all()


def kind_named(name: Any, what: str = "The kind", file: Path | None = None) -> Kind:
    """Return a kind by name.

    Args:
        name: Its name, or a reference to a plugin.
        what: What named it, to begin a sentence with.
        file: The file that names it, if one does.

    Raises:
        InputError: If there is none of that name, or a plugin can not be used.
    """
    if isinstance(name, str):
        name = plugged(name, file)
    found = KINDS.get(name) if isinstance(name, str) else None
    if found is None:
        known = KINDS.names()
        suggestion = did_you_mean(name, known) if isinstance(name, str) else ""
        raise InputError(f"{what} is {name!r}, but must be {' or '.join(known)}.{suggestion}")
    return found


def kind_of(scenario: WorldScenario) -> Kind:
    """Return the kind of a scenario, with what the scenario's objective changes in it."""
    return kind_named(scenario.kind).with_terms(getattr(scenario, "objective", ()))
