# SPDX-License-Identifier: Apache-2.0
"""The Python interface: what the commands do, with their defaults, for scripts and notebooks.

``import edgegen`` has all of it: ``edgegen.load_world``, ``edgegen.make_policy``, ``edgegen.play``,
``edgegen.compare``, ``edgegen.train``, ``edgegen.tune``, ``edgegen.load_study`` and ``edgegen.figures``.
Wrong input raises :class:`edgegen.envs.core.errors.InputError` with one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.algorithms.core import catalog
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.rulebook import rules_for
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import as_scenario, load_scenario
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.defaults import (
    EVALUATION_EPISODES,
    RUNS,
    TRAINING_EPISODES,
    TUNING_EPISODES,
    TUNING_TRIALS,
    folder_label,
    slug,
)
from edgegen.platform.runs import comparison
from edgegen.platform.runs.comparison import Comparison
from edgegen.platform.runs.evaluation import Results, evaluate
from edgegen.platform.runs.pooling import in_folders, pooled_by_method

if TYPE_CHECKING:
    from edgegen.platform.runs.rule_search import Trial
    from edgegen.platform.runs.training import EpisodeReport, TrainResult
    from edgegen.platform.runs.tuning import TuneResult

World = WorldScenario | str | Path
"""A scenario, or what :func:`load_world` loads one from."""
AnyPolicy = Policy | str | Path
"""A policy, or what :func:`make_policy` makes one from."""


def load_world(name_or_path: str | Path, settings: Mapping[str, Any] | None = None) -> Any:
    """Load a scenario.

    Args:
        name_or_path: A shipped one, ``name`` or ``name:variant``, or a file, ``path.yaml`` or ``path.yaml:variant``.
        settings: Fields to change, by dotted name, as after ``--set``: ``{"tasks_per_slot.high": 8}``.

    Returns:
        The scenario: a frozen pydantic model whose fields have their units in their names.

    Raises:
        InputError: If there is none, or a field is wrong.

    Example:
        >>> world = load_world("demo", {"slots": 20})
        >>> world.kind, world.slots
        ('offloading', 20)
    """
    return load_scenario(name_or_path, dict(settings or {}))


def make_policy(name: str | Path, world: World, seed: int = 0) -> Policy:
    """Make a policy for a world.

    Args:
        name: A rule, ``path.py:NAME`` of a plugin, a run, a checkpoint or a policy folder, ``models:/NAME@ALIAS``, or
            several of these by role: ``"router=runs/mine cacher=lru"``.
        world: Where it is to play.
        seed: Of its random numbers.

    Raises:
        InputError: If there is none, or it does not fit the world.

    Example:
        >>> make_policy("least-delay", "demo").roles
        frozenset({'router'})
    """
    return catalog.make_policy(str(name), as_scenario(world), seed)


def play(
    world: World, policy: AnyPolicy, episodes: int = EVALUATION_EPISODES, seed: int = 0, greedy: bool = False
) -> Results:
    """Let a policy play evaluation episodes, as ``edgegen evaluate`` does.

    Args:
        world: The world.
        policy: Who decides.
        episodes: How many episodes K.
        seed: Of what happens from outside; training never meets it.
        greedy: Take the most likely actions of a trained policy, and do not sample.

    Returns:
        Values by name, an array ``[K]`` each: ``results["mean_delay_s"]``, ``results.to_frame()``.

    Raises:
        InputError: If the world or the policy can not be had, or a number is out of range.

    Example:
        >>> results = play("demo", "least-delay", episodes=3)
        >>> results["mean_delay_s"].shape
        (3,)
    """
    scenario = as_scenario(world)
    return evaluate(scenario, _policy(policy, scenario, seed), episodes, seed, explore=not greedy)


def compare(
    world: World,
    policies: Sequence[AnyPolicy] | Mapping[str, AnyPolicy] | None = None,
    episodes: int = EVALUATION_EPISODES,
    seed: int = 0,
    reference: str | None = None,
    greedy: bool = False,
    pooled: bool = False,
) -> Comparison:
    """Compare policies on identical arrivals, as ``edgegen compare`` does.

    Args:
        world: The world.
        policies: Who is compared, or by what label; all rules and benchmarks if not given.
        episodes: Episodes of each.
        seed: Of what happens from outside; training never meets it.
        reference: Label of the policy to compare with, which joins in if it is a rule; the kind's usual one if not
            given.
        greedy: Take the most likely actions of trained policies, and do not sample.
        pooled: Pool trainings of one method that differ in their seeds alone.

    Returns:
        The comparison, best first: ``table()`` for a terminal, ``to_frame()``, ``write_table("table.tex")``,
        ``edgegen.figures.comparison(...)``.

    Raises:
        InputError: If the world or a policy can not be had, two have one name, or a number is out of range.

    Example:
        >>> found = compare("demo", ["least-delay", "local"], episodes=3)
        >>> [row.label for row in found.rows]
        ['least-delay', 'capacity-weighted', 'local']
    """
    scenario = as_scenario(world)
    rules, kind = rules_for(scenario), kind_of(scenario)
    wanted = _labelled(list(rules) if policies is None else policies)
    made = {label: _policy(policy, scenario, seed) for label, policy in wanted.items()}
    reference = kind.reference if reference is None else reference
    if reference not in made and reference in rules:
        made[reference] = make_policy(reference, scenario, seed)
    result = comparison.compare(scenario, made, episodes, seed, reference, explore=not greedy)
    if not pooled:
        return result
    roles = kind.world.roles
    named = {
        label: catalog.plain_name(str(policy), roles)
        for label, policy in wanted.items()
        if isinstance(policy, str | Path)
    }
    return pooled_by_method(result, in_folders(named, scenario))


def train(
    method: str,
    world: World | None = None,
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    episodes: int = TRAINING_EPISODES,
    seed: int = 0,
    out: str | Path | None = None,
    tracking: bool = False,
    on_episode: Callable[[EpisodeReport], None] | None = None,
) -> TrainResult:
    """Train a method, as ``edgegen train`` does.

    Args:
        method: ``ladts``, ``t2drl``, ``fleet``, or that of a plugin.
        world: Where; the method's own world if not given.
        preset: Its preset; the method's usual one if not given.
        settings: Its settings that differ from the preset.
        episodes: Episodes to train for.
        seed: Root of every generator.
        out: Run folder; one below ``runs`` whose name says what was trained if not given.
        tracking: Record the run in MLflow.
        on_episode: Is told how far it is.

    Returns:
        Where the run is (``out``) and its policy (``policy``), and what was measured of every episode.

    Raises:
        InputError: If something that was asked for is unknown or impossible.
    """
    from edgegen.algorithms.methods.registry import find_method
    from edgegen.platform.runs.training import TrainRequest
    from edgegen.platform.runs.training import train as run

    learner = find_method(method)
    scenario = (
        learner.load_scenario(learner.default_scenario) if world is None else as_scenario(world, learner.scenario)
    )
    chosen = learner.default_preset if preset is None else preset
    folder = RUNS / f"{learner.name}-{chosen}-{slug(scenario.name)}-seed{seed}" if out is None else Path(out)
    request = TrainRequest(
        scenario=scenario,
        out=folder,
        numbered=out is None,
        algorithm=learner.name,
        preset=chosen,
        overrides=dict(settings or {}),
        episodes=episodes,
        seed=seed,
        tracking=tracking,
    )
    return run(request, on_episode)


def tune(
    rule: str,
    world: World,
    *,
    trials: int = TUNING_TRIALS,
    episodes: int = TUNING_EPISODES,
    seed: int = 0,
    out: str | Path | None = None,
    tracking: bool = False,
    on_trial: Callable[[list[Trial], int], None] | None = None,
) -> TuneResult:
    """Tune the constants of a rule, as ``edgegen tune`` does.

    Args:
        rule: A rule with constants.
        world: Where.
        trials: Sets of constants to try.
        episodes: Training episodes that each of them plays.
        seed: Of the episodes and of the search.
        out: Run folder; one below ``runs`` if not given.
        tracking: Record the tuning in MLflow.
        on_trial: Is told all trials so far and how many there will be.

    Returns:
        The best constants (``best``), and the folder of the tuned rule (``policy``), which is a policy like a trained
        one.

    Raises:
        InputError: If something that was asked for is unknown or impossible.
    """
    from edgegen.envs.core.plugins import plugged
    from edgegen.platform.runs.rule_search import TuneRequest
    from edgegen.platform.runs.tuning import tune as run

    scenario, name = as_scenario(world), plugged(rule)
    folder = RUNS / f"tuned-{name}-{slug(scenario.name)}-seed{seed}" if out is None else Path(out)
    request = TuneRequest(name, scenario, trials, episodes, seed)
    return run(request, folder, out is None, tracking, on_trial or (lambda trials, wanted: None))


def _policy(policy: AnyPolicy, scenario: WorldScenario, seed: int) -> Policy:
    return make_policy(policy, scenario, seed) if isinstance(policy, str | Path) else policy


def _labelled(policies: Sequence[AnyPolicy] | Mapping[str, AnyPolicy]) -> dict[str, AnyPolicy]:
    """Policies by label: a rule's name, a run's, or what a policy calls itself."""
    if isinstance(policies, Mapping):
        return dict(policies)
    found: dict[str, AnyPolicy] = {}
    for policy in policies:
        label = _label(str(policy)) if isinstance(policy, str | Path) else policy.name
        if label in found:
            raise InputError(f"Two policies are called '{label}'; give a dictionary of policies by label.")
        found[label] = policy
    return found


def _label(name: str) -> str:
    from edgegen.envs.core.plugins import plugged

    name = plugged(name)
    return folder_label(name) if Path(name).expanduser().is_dir() else name
