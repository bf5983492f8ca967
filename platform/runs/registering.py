# SPDX-License-Identifier: Apache-2.0
"""From a finished training to the model registry, through the gate before champion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgegen.algorithms.core.catalog import find_policy_folder
from edgegen.algorithms.core.codec import read_manifest
from edgegen.algorithms.methods.registry import find_method
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.engine.doing import read_json, run_unit
from edgegen.platform.engine.tuning import Tuning
from edgegen.platform.engine.unit import Evaluation
from edgegen.platform.records.gate import Judge
from edgegen.platform.records.lineage import lineage
from edgegen.platform.records.model_registry import Candidate, Model, Registration, register
from edgegen.platform.records.tracking import Store
from edgegen.platform.runs.rule_search import tunable_rules
from edgegen.platform.runs.training import RUN_FILE

GATE_EPISODES = 60
GATE_SEED = 1
"""Validation episodes of the gate: others than any training, and than ``edgegen compare`` shows."""
BARS = "bars"
"""Folder in a run with the rules that were tuned as long as it was trained."""

OnStep = Callable[[str], None]
"""Is told what is being done."""


def register_run(run: Path, name: str, bar: str | None, force: bool, on_step: OnStep) -> Registration:
    """Register the newest policy of a training, and make it champion if it passes the gate.

    Args:
        run: Its run folder.
        name: Name of the registered model.
        bar: Policy that it has to be better than; if None, the best rule of its world that is tuned with as many
            training episodes.
        force: Make it champion in any case.
        on_step: Is told what is being done.

    Raises:
        InputError: If the folder holds no training, the bar is no policy, or MLflow can not be used.
    """
    try:
        described = read_json(run / RUN_FILE)
        method, seed = find_method(described["algorithm"]), int(described["seed"])
        world: WorldScenario = build_scenario(described["scenario"])
        run_id = described.get("mlflow_run_id")
    except (OSError, KeyError, TypeError) as error:
        raise InputError(f"'{run}' holds no training that can be registered ({error!r}).") from None
    store = Store(run)
    policy = find_policy_folder(str(run), ())
    episodes = int(read_manifest(policy)["training"]["episodes"])
    judge = Judge(world, kind_of(world).metric, GATE_SEED, GATE_EPISODES)
    model = Model(name, f"{method.title or method.name} on {world.name}", judge)
    if bar is not None:
        judge.values(bar)  # one that is no policy is to be said before anything is registered
    settings = method.make_settings(described["preset"], described["settings"])
    rival: Candidate | str | None = bar
    if bar is None:
        rival = _best_bar(run, store, judge, seed, episodes, method.start_episodes(settings), on_step)
    if run_id is None:
        run_id = store.create_run(run.name, {"edgegen.registered": "afterwards"}, {})
    candidate = Candidate(
        title=run.name,
        policy=policy,
        run_id=run_id,
        tags={"edgegen.run": str(run_id), "edgegen.episodes": str(episodes), "edgegen.seed": str(seed)},
        lineage=lineage(world),
        description=f"{method.name}, preset {described['preset']}, on {world.name}: {episodes} episodes, seed {seed}.",
    )
    on_step(f"Comparing {run.name} on {GATE_EPISODES} validation episodes")
    return register(store, model, candidate, rival, force)


def _best_bar(
    run: Path, store: Store, judge: Judge, seed: int, episodes: int, start: int, on_step: OnStep
) -> Candidate | None:
    """Tune every rule with constants as long as the policy was trained; returns the best."""
    world, found = judge.world, []
    for rule in tunable_rules(world):
        on_step(f"Tuning {rule} with as many training episodes")
        unit = Tuning.of(rule, world, rule, seed, episodes, Evaluation(world, 1, seed), start=start)
        folder = run / BARS / unit.identity
        run_unit(unit, folder, lambda *_: None)
        policy = unit.policy_folder(folder)
        found.append((float(judge.values(policy).mean()), rule, policy))
    if not found:
        return None
    choose = max if judge.metric in kind_of(world).gains else min
    _, rule, policy = choose(found, key=lambda one: one[0])
    run_id = store.create_run(f"{rule}, the bar of {run.name}", {"edgegen.bar": run.name}, {})
    return Candidate(
        title=f"{rule} (tuned)",
        policy=policy,
        run_id=run_id,
        tags={"edgegen.bar_of": run.name, "edgegen.rule": rule, "edgegen.seed": str(seed)},
        lineage=lineage(world),
        description=f"rule {rule} on {world.name}, tuned with the {episodes + start} training episodes of {run.name}.",
    )
