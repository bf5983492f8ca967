# SPDX-License-Identifier: Apache-2.0
"""A sweep with everything its names stand for, checked to the last name before any trial starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from edgegen.algorithms.core.rulebook import rules_for
from edgegen.algorithms.methods.registry import Method, find_method
from edgegen.envs.core.errors import InputError, did_you_mean, from_validation
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.named_files import existing
from edgegen.envs.core.plugins import with_plugins
from edgegen.envs.core.scenario_files import named_in, with_overrides
from edgegen.envs.core.world import WorldScenario
from edgegen.envs.core.yaml_files import read_mapping
from edgegen.platform.sweeps.objectives import Objective, objectives_of
from edgegen.platform.sweeps.space import SCENARIO_PREFIX, Domain, check_conditions, parse_domain
from edgegen.platform.sweeps.spec import SweepSpec


@dataclass(frozen=True)
class CheckedSweep:
    """A sweep with everything that its names stand for.

    Attributes:
        spec: The sweep.
        learner: Its algorithm.
        world: The world that every trial is judged in.
        space: What varies.
        objectives: What it is after; the first decides.
        model: Name of the registered model.
    """

    spec: SweepSpec
    learner: Method
    world: WorldScenario
    space: dict[str, Domain]
    objectives: tuple[Objective, ...]
    model: str

    @property
    def metric(self) -> str:
        """The metric that decides, by name among the results of an evaluation."""
        return self.objectives[0].metric

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether less (``min``) or more (``max``) of it is better."""
        return self.objectives[0].mode

    @property
    def also(self) -> tuple[Objective, ...]:
        """Objectives that are searched beside the metric that decides."""
        return self.objectives[1:]

    def described(self) -> dict[str, Any]:
        """Return the sweep and its world as plain data, of which :func:`recalled` makes it again anywhere.

        Trials run in other folders, and on machines that do not have the files that the sweep names.
        """
        return {
            "spec": self.spec.model_dump(mode="json"),
            "world": self.world.model_dump(mode="json", exclude_defaults=True),
        }

    def better(self, first: float, second: float) -> bool:
        """Whether the first value of the metric is better than the second."""
        return self.objectives[0].better(first, second)

    def settings(self, values: Mapping[str, Any]) -> Any:
        """Return the algorithm's settings for some values of the space."""
        own = {name: value for name, value in values.items() if not name.startswith(SCENARIO_PREFIX)}
        return self.learner.make_settings(self.spec.preset, {**self.spec.settings, **own})

    def training_world(self, values: Mapping[str, Any]) -> WorldScenario:
        """Return the world a trial trains in: the sweep's, with the fields that vary."""
        changes = {
            name.removeprefix(SCENARIO_PREFIX): v for name, v in values.items() if name.startswith(SCENARIO_PREFIX)
        }
        if not changes:
            return self.world
        return changed_world(self.learner, self.world, changes)


def changed_world(learner: Method, world: WorldScenario, changes: Mapping[str, Any]) -> WorldScenario:
    """Return a world with fields replaced, by dotted name.

    Raises:
        InputError: If a field is unknown or a value impossible.
    """
    data = with_overrides(world.model_dump(), dict(changes), world.name, learner.scenario)
    changed: WorldScenario = learner.build_scenario(data)
    return changed


def read_sweep(path: Path, changes: Mapping[str, Any] | None = None) -> CheckedSweep:
    """Read and check a sweep.

    Args:
        path: The file.
        changes: Values that replace fields of the file, by dotted name, for example ``{"budget.trials": 4}``.

    Raises:
        InputError: If the file can not be read, or any name or value in it is wrong.
    """
    path = existing(path, "sweep")
    data = with_plugins(read_mapping(path, "Sweep file"), path, ("algorithm", "rules"))
    data.setdefault("name", path.stem)
    for name, value in (changes or {}).items():
        _replace(data, name.split("."), name, value)
    for field in ("scenario", "service"):
        if isinstance(data.get(field), str):
            data[field] = named_in(path, data[field])
    return make_sweep(data)


def _replace(data: dict[str, Any], parts: list[str], name: str, value: Any) -> None:
    # What is below space, settings and overrides are names with dots of their own.
    depth = 2 if parts[0] in ("space", "settings", "overrides") else len(parts)
    parts = [*parts[: depth - 1], ".".join(parts[depth - 1 :])]
    for part in parts[:-1]:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise InputError(f"--set {name}: '{part}' has no fields of its own.")
    data[parts[-1]] = value


def recalled(described: Mapping[str, Any]) -> CheckedSweep:
    """Make a sweep of what :meth:`CheckedSweep.described` returns; reads no file."""
    return make_sweep(described["spec"], described["world"])


def make_sweep(data: Mapping[str, Any], world: Mapping[str, Any] | None = None) -> CheckedSweep:
    """Check a sweep given as plain data.

    Args:
        data: Its fields.
        world: Its world, if known already; what the sweep names is read if not given.

    Raises:
        InputError: If any name or value is wrong.
    """
    what = f"Sweep '{data.get('name', '?')}'"
    try:
        spec = SweepSpec.model_validate(dict(data))
    except ValidationError as error:
        raise from_validation(error, what, _fields_at(error)) from None
    try:
        return _checked(spec, world)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def _fields_at(error: ValidationError) -> list[str]:
    """Names of the fields that are known where the first complaint is."""
    model: type[BaseModel] = SweepSpec
    for part in error.errors(include_url=False)[0]["loc"][:-1]:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not isinstance(inner, type) or not issubclass(inner, BaseModel):
            return []
        model = inner
    return list(model.model_fields)


def _checked(spec: SweepSpec, known: Mapping[str, Any] | None) -> CheckedSweep:
    learner = find_method(spec.algorithm)
    learner.make_settings(spec.preset)  # a wrong preset is named as such
    _check_names(learner, spec)
    described = None if known is None else {**known, "kind": learner.kind_name}  # what is a default is not said
    world: WorldScenario = _world(learner, spec) if described is None else learner.build_scenario(described)
    space = {name: parse_domain(name, line) for name, line in spec.space.items()}
    check_conditions(space)
    sweep = CheckedSweep(
        spec=spec,
        learner=learner,
        world=world,
        space=space,
        objectives=objectives_of(spec, kind_of(world)),
        model=spec.model or f"edgegen-{spec.name}",
    )
    _check_space(sweep)
    _check_scheduler(sweep)
    _check_rules(sweep)
    return sweep


def _check_names(learner: Method, spec: SweepSpec) -> None:
    known = list(learner.settings.model_fields)
    for field, names in (("settings", spec.settings), ("space", spec.space)):
        for name in names:
            if name in known or (field == "space" and name.startswith(SCENARIO_PREFIX)):
                continue
            heads = [f"{SCENARIO_PREFIX}{other}" for other in learner.scenario.model_fields if other != "kind"]
            allowed = known + heads if field == "space" else known
            more = f", and fields of the scenario as {SCENARIO_PREFIX}NAME" if field == "space" else ""
            raise InputError(
                f"{field} names '{name}', but {spec.algorithm} has no such setting; settings are "
                f"{', '.join(known)}{more}.{did_you_mean(name, allowed)}"
            )
    if both := set(spec.settings) & set(spec.space):
        raise InputError(f"'{min(both)}' is fixed in settings and varied in space; remove one of them.")
    if both := {f"{SCENARIO_PREFIX}{name}" for name in spec.overrides} & set(spec.space):
        raise InputError(f"'{min(both)}' is fixed in overrides and varied in space; remove one of them.")


def _world(learner: Method, spec: SweepSpec) -> WorldScenario:
    world: WorldScenario
    if spec.service is None:
        world = learner.load_scenario(spec.scenario or learner.default_scenario, spec.overrides)
        return world
    from edgegen.serve.config import load_config
    from edgegen.serve.kinds.registry import training_scenario

    config = load_config(spec.service)
    if learner.kind_name != config.kind:
        raise InputError(
            f"service is '{spec.service}', whose world is of the kind {config.kind}, but {learner.name} plays "
            f"{learner.kind_name}."
        )
    world = training_scenario(config)
    return changed_world(learner, world, spec.overrides) if spec.overrides else world


def _check_space(sweep: CheckedSweep) -> None:
    """Try the ends and all choices of every range, so that no trial meets an impossible value."""
    for name, domain in sweep.space.items():
        for value in domain.probes():
            try:
                sweep.settings({**domain.example, name: value})
                world = sweep.training_world({**domain.example, name: value})
            except InputError as error:
                whole = (
                    domain.kind in ("uniform", "log_uniform") and isinstance(value, float) and not value.is_integer()
                )
                hint = f" If only whole numbers are allowed, write {domain.kind.replace('uniform', 'int')}."
                raise InputError(f"space.{name} can not be {value!r}: {error}{hint if whole else ''}") from None
            _check_same_size(sweep.world, world, name)


def _check_same_size(world: WorldScenario, changed: WorldScenario, name: str) -> None:
    before, after = (kind_of(each).shape(each) for each in (world, changed))
    for size in before:
        if before[size] != after[size]:
            raise InputError(
                f"space.{name} changes the number of {size}, but every trial is judged in the same world; vary another "
                "field, or make one sweep for each."
            )


def _check_scheduler(sweep: CheckedSweep) -> None:
    scheduler = sweep.spec.scheduler
    if not scheduler.has_population:
        return
    if any(domain.when is not None for domain in sweep.space.values()):
        raise InputError(
            f"space holds a condition (when), but scheduler {scheduler.kind} moves values that all trials have."
        )
    allowed = sweep.learner.in_flight
    for name, domain in sweep.space.items():
        if scheduler.kind == "pb2" and domain.kind == "choice":
            raise InputError(
                f"space.{name} is a choice, but scheduler pb2 moves numbers in ranges; write a range, or use pbt."
            )
        if name not in allowed:
            raise InputError(
                f"space names '{name}', but scheduler {scheduler.kind} changes values in the middle of a training, "
                f"which is possible for {', '.join(allowed)} only; fix it in settings or use another scheduler."
            )


def _check_rules(sweep: CheckedSweep) -> None:
    known = rules_for(sweep.world)
    for rule in sweep.spec.evaluation.rules or ():
        if rule not in known:
            raise InputError(
                f"evaluation.rules names '{rule}'; rules are {', '.join(known)}.{did_you_mean(rule, known)}"
            )
