# SPDX-License-Identifier: Apache-2.0
"""From a study to the work it takes: every name checked, every training and play of a rule known by what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgegen.algorithms.core.rulebook import rules_for
from edgegen.algorithms.core.tunable import tuned_name
from edgegen.algorithms.methods.registry import find_method, methods
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenario_files import named_in
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.engine.unit import Evaluation, Play, Unit
from edgegen.platform.runs.rule_search import tunable_rules
from edgegen.platform.studies.spec import Experiment, Extent, Method, Point, Size, StudySpec
from edgegen.platform.studies.units import PPO, PPOTraining, Stream, Training, TunedRule

OFFLOADING = "offloading"
"""Kind of world that PPO plays."""


@dataclass(frozen=True)
class Cell:
    """A method or a rule at one point of one world of an experiment.

    Attributes:
        scenario: The world, as the experiment names it.
        value: Value of the axis, None without one.
        label: Name of the method or rule.
        seeds: Training seeds; empty for rules that are not tuned.
        episodes: Training episodes.
        units: Identities of its trainings or tunings by seed, or of the rule's play.
        streams: Identities of the rule's plays of training episodes, by training seed.
        learned: Whether it is a method.
    """

    scenario: str
    value: float | str | None
    label: str
    seeds: tuple[int, ...]
    episodes: int
    units: tuple[str, ...]
    streams: tuple[str, ...] = ()
    learned: bool = False


@dataclass(frozen=True)
class ExperimentPlan:
    """An experiment of one size with its cells.

    Attributes:
        experiment: The experiment.
        kind: Name of the kind of its worlds.
        reference: The rule that ratios refer to.
        evaluations: By scenario and value, what policies are judged on, and in which world.
        cells: Its cells.
    """

    experiment: Experiment
    kind: str
    reference: str
    evaluations: Mapping[tuple[str, float | str | None], Evaluation]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Plan:
    """All that a study of one size takes.

    Attributes:
        spec: The study.
        size: How much of it.
        experiments: Its experiments.
        units: Its units by identity, in the order of the experiments.
    """

    spec: StudySpec
    size: Size
    experiments: tuple[ExperimentPlan, ...]
    units: Mapping[str, Unit]


def make_plan(spec: StudySpec, size: Size, only: Iterable[str] = (), file: Path | None = None) -> Plan:
    """Work out what a study takes.

    Args:
        spec: The study.
        size: ``full`` or ``quick``.
        only: Experiments to run; all if empty.
        file: Where the study is from; files of scenarios are looked for beside it, then in the working folder.

    Raises:
        InputError: If a method, rule, scenario, setting or experiment is unknown, or a value is impossible.
    """
    wanted = list(only)
    known = [experiment.name for experiment in spec.experiments]
    for name in wanted:
        if name not in known:
            raise InputError(
                f"Study '{spec.name}' has no experiment '{name}'; it has {', '.join(known)}.{did_you_mean(name, known)}"
            )
    builder = _Builder(spec, size, file)
    plans = []
    for experiment in spec.experiments:
        if (wanted and experiment.name not in wanted) or experiment.extent(size).skip:
            continue
        try:
            plans.append(builder.experiment(experiment))
        except InputError as error:
            raise InputError(f"Study '{spec.name}', experiment '{experiment.name}': {error}") from None
    if not plans:
        raise InputError(f"Nothing is left of study '{spec.name}': the {size} one skips {', '.join(wanted or known)}.")
    return Plan(spec, size, tuple(plans), builder.units)


def settings_of(method: Method) -> tuple[list[str], Callable[..., BaseModel]]:
    """Return the names of an algorithm's settings, and what makes settings of preset and changes.

    Raises:
        InputError: If there is no such algorithm.
    """
    if method.algorithm == PPO:
        from edgegen.platform.studies import ppo

        return list(ppo.PPOSettings.model_fields), ppo.make_settings
    known = (*methods(), PPO)
    if method.algorithm not in known:
        raise InputError(
            f"algorithm is '{method.algorithm}', but must be one of {', '.join(known)}."
            f"{did_you_mean(method.algorithm, known)}"
        )
    learner = find_method(method.algorithm)
    return list(learner.settings.model_fields), learner.make_settings


class _Builder:
    """Collects the units of a study."""

    def __init__(self, spec: StudySpec, size: Size, file: Path | None) -> None:
        self.spec = spec
        self.size = size
        self.file = file
        self.defaults: Extent = getattr(spec, size)
        self.units: dict[str, Unit] = {}

    def experiment(self, experiment: Experiment) -> ExperimentPlan:
        extent = experiment.extent(self.size)
        episodes = extent.evaluation_episodes or self.defaults.evaluation_episodes or 1
        seed = self._of(extent.evaluation_seed, self.defaults.evaluation_seed)
        evaluations: dict[tuple[str, float | str | None], Evaluation] = {}
        cells: list[Cell] = []
        points = self._points(experiment, extent)
        for scenario in experiment.scenarios:
            for point in points:
                changes = {**experiment.overrides, **(point.overrides if point else {})}
                world = self._load(scenario, changes)
                trained_in = world if experiment.train_on is None else self._load(experiment.train_on, changes)
                evaluation = Evaluation(world, episodes, seed)
                evaluations[scenario, point.value if point else None] = evaluation
                cells += self._cells(experiment, extent, evaluation, scenario, point, trained_in)
        worlds = [evaluation.world for evaluation in evaluations.values()]
        kinds = {kind_of(world).name for world in worlds}
        if len(kinds) > 1:
            raise InputError(f"its scenarios are of the kinds {' and '.join(sorted(kinds))}; they must be of one.")
        named = {tuple(sorted(getattr(world, "objective", ()))): world.name for world in worlds}
        if len(named) > 1:
            first, second = list(named)[:2]
            raise InputError(
                f"the objective of '{named[first]}' names {', '.join(first) or 'no terms'} and that of "
                f"'{named[second]}' {', '.join(second) or 'no terms'}; scenarios of an experiment must name the same."
            )
        kind = kind_of(worlds[0])
        reference = experiment.reference or kind.reference
        if reference not in experiment.rules:
            raise InputError(f"the reference '{reference}' is not among the rules {', '.join(experiment.rules)}.")
        for metric in experiment.metrics:
            if metric not in kind.metrics:
                raise InputError(
                    f"metrics names '{metric}', but must name some of {', '.join(kind.metrics)}."
                    f"{did_you_mean(metric, kind.metrics)}"
                )
        self._check_published(experiment)
        return ExperimentPlan(experiment, kind.name, reference, evaluations, tuple(cells))

    def _load(self, scenario: str, changes: dict[str, Any]) -> WorldScenario:
        loaded: WorldScenario = load_scenario(scenario if self.file is None else named_in(self.file, scenario), changes)
        return loaded

    @staticmethod
    def _of(own: int | None, default: int | None) -> int:
        return own if own is not None else (default or 0)

    def _points(self, experiment: Experiment, extent: Extent) -> list[Point | None]:
        if experiment.axis is None:
            return [None]
        points = experiment.axis.all_points
        if extent.values is None:
            return list(points)
        known = {point.value: point for point in points}
        for value in extent.values:
            if value not in known:
                raise InputError(f"{self.size}.values names {value}, but the axis has {', '.join(map(str, known))}.")
        return [known[value] for value in extent.values]

    def _cells(
        self,
        experiment: Experiment,
        extent: Extent,
        evaluation: Evaluation,
        scenario: str,
        point: Point | None,
        trained_in: WorldScenario,
    ) -> list[Cell]:
        value, world = point.value if point else None, evaluation.world
        reference = experiment.reference or kind_of(world).reference
        seeds = extent.seeds or self.defaults.seeds or ()
        cells, played = [], [0]
        for name in self._methods(experiment, extent):
            episodes = extent.method_episodes.get(name) or self.defaults.method_episodes.get(name)
            episodes = episodes or extent.episodes or self.defaults.episodes or 1
            method = self.spec.methods[name]
            changes = {**self.defaults.settings, **extent.settings, **(point.settings if point else {})}
            settings = self._settings(name, changes)
            self._check_world(method, trained_in)
            make = PPOTraining if method.algorithm == PPO else Training
            start = 0 if method.algorithm == PPO else find_method(method.algorithm).start_episodes(settings)
            played.append(episodes + start)
            units = [
                self._add(
                    make(
                        _title(method.title, experiment.train_on or scenario, experiment, value, seed),
                        trained_in,
                        method.algorithm,
                        settings.model_dump(mode="json"),
                        settings.model_dump(mode="json", exclude_defaults=True),
                        method.preset,
                        seed,
                        episodes,
                        (evaluation,),
                        self.spec.checkpoint_every,
                    )
                )
                for seed in seeds
            ]
            cells.append(Cell(scenario, value, name, seeds, episodes, tuple(units), learned=True))
        longest = max((cell.episodes for cell in cells), default=0)
        for rule in self._tuned(experiment, extent, trained_in) if longest else ():
            where = experiment.train_on or scenario
            tunings = [
                self._add(
                    TunedRule.of(
                        _title(tuned_name(rule), where, experiment, value, seed),
                        trained_in,
                        rule,
                        seed,
                        longest,
                        evaluation,
                        start=max(played) - longest,
                    )
                )
                for seed in seeds
            ]
            cells.append(Cell(scenario, value, tuned_name(rule), seeds, longest, tuple(tunings)))
        for rule in experiment.rules:
            known = rules_for(world)
            if rule not in known:
                raise InputError(f"unknown rule '{rule}'; rules are {', '.join(known)}.{did_you_mean(rule, known)}")
            title = _title(rule, scenario, experiment, value)
            unit = self._add(Play(title, world, rule, evaluations=(evaluation,)))
            streams = []
            # Curves show all rules beside the learners, sample efficiency divides by the reference.
            shown = "curves" in experiment.figures or ("efficiency" in experiment.figures and rule == reference)
            if shown and longest:
                streams = [
                    self._add(Stream(f"{title}, training episodes {seed}", world, rule, seed=seed, episodes=longest))
                    for seed in seeds
                ]
            cells.append(Cell(scenario, value, rule, (), longest, (unit,), tuple(streams)))
        return cells

    def _methods(self, experiment: Experiment, extent: Extent) -> tuple[str, ...]:
        known = list(self.spec.methods)
        for name in experiment.methods:
            if name not in known:
                raise InputError(f"unknown method '{name}'; methods are {', '.join(known)}.{did_you_mean(name, known)}")
        chosen = experiment.methods if extent.methods is None else extent.methods
        for name in (*chosen, *extent.method_episodes):
            if name not in experiment.methods:
                raise InputError(
                    f"{self.size} names the method '{name}', but the experiment has {', '.join(experiment.methods)}."
                )
        return chosen

    def _tuned(self, experiment: Experiment, extent: Extent, world: WorldScenario) -> Sequence[str]:
        """Rules to tune in a world."""
        known = tunable_rules(world)
        for field, names in (("tuned", experiment.tuned), (f"{self.size}.tuned", extent.tuned)):
            for name in names or ():
                if name not in known:
                    raise InputError(
                        f"{field} names '{name}', but rules with constants for scenario '{world.name}' are "
                        f"{', '.join(known) or 'none'}.{did_you_mean(name, known)}"
                    )
        wanted = known if experiment.tuned is None else experiment.tuned
        return wanted if extent.tuned is None else extent.tuned

    def _settings(self, name: str, changes: Mapping[str, Any]) -> BaseModel:
        """Settings of a method; changes for many methods apply to those that have such a setting."""
        method = self.spec.methods[name]
        try:
            fields, make = settings_of(method)
            own = {key: value for key, value in changes.items() if key in fields}
            for key in changes:
                if not self._knows(key):
                    raise InputError(f"no method has the setting '{key}'.{did_you_mean(key, fields)}")
            return make(method.preset, {**method.settings, **own})
        except InputError as error:
            raise InputError(f"method '{name}': {error}") from None

    def _knows(self, setting: str) -> bool:
        return any(setting in settings_of(method)[0] for method in self.spec.methods.values())

    def _check_world(self, method: Method, world: WorldScenario) -> None:
        plays = OFFLOADING if method.algorithm == PPO else find_method(method.algorithm).kind_name
        if world.kind != plays:
            raise InputError(
                f"method '{method.title}' is trained by {method.algorithm}, which can not play the scenario "
                f"'{world.name}' of the kind {kind_of(world).name}."
            )

    def _check_published(self, experiment: Experiment) -> None:
        published = experiment.published
        if published is None:
            return
        known = (*experiment.methods, *experiment.rules)
        named = [*published.final, *published.curves]
        for claim in published.claims:
            named += [*claim.methods, *(name for name in (claim.method, claim.reference) if name is not None)]
        for name in named:
            if name not in known:
                raise InputError(
                    f"published names '{name}', but the experiment has {', '.join(known)}.{did_you_mean(name, known)}"
                )

    def _add(self, unit: Unit) -> str:
        identity = unit.identity
        before = self.units.get(identity)
        if before is not None:
            merged = dict.fromkeys((*before.evaluations, *unit.evaluations))
            unit = replace(before, evaluations=tuple(merged))
        self.units[identity] = unit
        return identity


def shown_value(value: float | str) -> str:
    """Return a value of an axis as people write it."""
    return value if isinstance(value, str) else f"{value:g}"


def _title(
    who: str, scenario: str, experiment: Experiment, value: float | str | None = None, seed: int | None = None
) -> str:
    where = scenario if value is None else f"{scenario}, {experiment.name} {shown_value(value)}"
    return f"{who}, {where}" + ("" if seed is None else f", seed {seed}")
