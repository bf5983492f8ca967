# SPDX-License-Identifier: Apache-2.0
"""Where env runners and learners run: one placement group, with room found for all before anything starts.

RLlib places its processes only when Tune has reserved room for them. Outside of Tune they would go wherever Ray likes,
and a request that no cluster can fulfil would wait for ever.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util import get_current_placement_group, placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup

from edgegen.envs.core.errors import InputError

BUSY_WAIT_S = 60.0
"""How long to wait for room that others use, unless told otherwise, s."""

Bundles = list[dict[str, float]]


def bundles_of(config: Any) -> Bundles:
    """What the remote processes of an algorithm need: env runners, those for evaluation, learners."""
    runner = {
        "CPU": config.num_cpus_per_env_runner,
        "GPU": config.num_gpus_per_env_runner,
        **config.custom_resources_per_env_runner,
    }
    learner_cpus = config.num_cpus_per_learner
    if learner_cpus == "auto":
        learner_cpus = 0 if config.num_gpus_per_learner else 1
    learner = {
        "CPU": learner_cpus,
        "GPU": config.num_gpus_per_learner,
        **(config.custom_resources_per_learner or {}),
    }
    runners = config.num_env_runners + (config.evaluation_num_env_runners if config.evaluation_interval else 0)
    wanted = [runner] * runners + [learner] * config.num_learners
    return [{name: float(amount) for name, amount in bundle.items() if amount} for bundle in wanted]


def reserve(config: Any) -> PlacementGroup | None:
    """Reserve room for the remote processes of an algorithm.

    Args:
        config: Its config. ``placement_strategy`` is ``PACK`` or ``SPREAD``; ``placement_wait_s`` is how long to wait
            for room. If that is None, a request that does not even fit an idle cluster is refused at once.

    Returns:
        The placement group; None if there are no remote processes, if they need nothing, or if Tune has reserved room.

    Raises:
        InputError: If there is no room.
    """
    bundles = bundles_of(config)
    if not bundles or not all(bundles) or get_current_placement_group() is not None:
        return None
    wait_s: float | None = config.placement_wait_s
    if wait_s is None and (short := _never_fits(bundles)):
        raise InputError(f"{_request(config)}, but {short}.")
    wait_s = BUSY_WAIT_S if wait_s is None else wait_s
    group = placement_group(bundles, strategy=config.placement_strategy)
    if group.wait(timeout_seconds=wait_s):
        return group
    remove_placement_group(group)
    if short := _never_fits(bundles):
        raise InputError(f"{_request(config)}, but after {wait_s:g} s {short}.")
    free = ray.available_resources()
    left = _amounts({name: free.get(name, 0.0) for name in sorted({name for bundle in bundles for name in bundle})})
    raise InputError(f"{_request(config)}, but after {wait_s:g} s only {left} of the Ray cluster are free.")


def release(group: PlacementGroup | None) -> None:
    """Give reserved room back, unless the session has ended."""
    if group is not None and ray.is_initialized():
        remove_placement_group(group)


def _never_fits(bundles: Bundles) -> str:
    """Why an idle cluster could not hold the bundles, or nothing if it might."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    where = f"on {len(nodes)} node{'s' if len(nodes) != 1 else ''}"
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0.0) + amount
    have = {name: sum(node.get(name, 0.0) for node in nodes) for name in total}
    if any(have[name] < amount for name, amount in total.items()):
        return f"the Ray cluster has {_amounts(have)} {where}"
    for bundle in bundles:
        if not any(all(node.get(name, 0.0) >= amount for name, amount in bundle.items()) for node in nodes):
            return f"no single node of the Ray cluster has {_amounts(bundle)}"
    return ""


def _request(config: Any) -> str:
    """What was asked for, as the beginning of a sentence."""
    bundles = bundles_of(config)
    learners = bundles[len(bundles) - config.num_learners :]
    runners = bundles[: len(bundles) - config.num_learners]
    parts = [
        f"{len(some)} {name}{'s' if len(some) != 1 else ''} with {_amounts(some[0])}{' each' if len(some) > 1 else ''}"
        for name, some in (("env runner", runners), ("learner", learners))
        if some
    ]
    return f"There is no room for {' and '.join(parts)}"


def _amounts(resources: dict[str, float]) -> str:
    """Name amounts of resources."""
    return " and ".join(
        f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') and amount != 1 else ''}"
        for name, amount in resources.items()
    )
