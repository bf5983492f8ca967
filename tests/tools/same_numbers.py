# SPDX-License-Identifier: Apache-2.0
"""Whether two checkouts compute the same numbers, bit for bit: the safety net of every redesign.

    python tests/tools/same_numbers.py BEFORE AFTER             # both are checkouts; prints what differs
    python tests/tools/same_numbers.py BEFORE AFTER --quick     # a scenario of each kind, minutes instead of hours
    python tests/tools/same_numbers.py BEFORE AFTER --only train --case 'seed 1$'
    python tests/tools/same_numbers.py BEFORE AFTER --only rules --case ladts-paper$ --set-after service_order=by_index

The last one shows that what was changed on purpose is all that has changed.

Both are driven from outside, by their command lines and their PettingZoo environments, so that nothing inside has to
keep its name. Compared are the episodes of every rule, search and oracle in every scenario (``rules``), weights and
episodes of every preset after some training (``train``), replayed traces (``replay``) and rollouts of every PettingZoo
environment (``pettingzoo``). Scenarios, methods and presets are those that both checkouts list. The Python that runs
this script runs both; it needs the libraries of ``make install``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINED_IN = {"ladts": "demo", "t2drl": "t2drl-contended", "fleet": "fleet-8"}
SHORTER = {  # fewer transitions before the first update, so that eight episodes hold many
    "ladts": ("slots=40", "replay_warmup=100", "copies=2"),
    "t2drl": (
        *("frames=4", "slots_per_frame=5", "replay_warmup=64", "frame_warmup=8", "epsilon_hold_episodes=0", "copies=2"),
    ),
    "fleet": ("frames=3", "tune_trials=4", "tune_episodes=2", "updates_per_episode=3", "batch_size=16", "copies=2"),
}
TRACED = ("demo", "links", "failing", "stale")
WALL_TIMES = ("decision_wall_s", "decisions_per_s")
QUICK_SCENARIOS = ("demo", "t2drl-contended", "fleet-8")

_MAIN = "import sys; from edgegen.platform.cli import main; sys.argv[0] = 'edgegen'; main()"

Numbers = dict[str, str]
"""Digests by what they are of."""


@dataclass(frozen=True)
class Part:
    """A part of the comparison.

    Attributes:
        cases: From a checkout, and whether there is little time, to what can be compared.
        numbers: From a checkout, one of its cases, and whether there is little time, to digests.
    """

    cases: Callable[[Checkout, bool], list[str]]
    numbers: Callable[[Checkout, str, bool], Numbers]


def main() -> None:
    """Compare two checkouts; exits with 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--quick", action="store_true", help="a scenario of each kind, one seed, two episodes of rules")
    parser.add_argument("--only", choices=[*PARTS], action="append", help="part to compare; repeatable")
    parser.add_argument("--case", type=re.compile, default=re.compile(""), help="regular expression that cases match")
    parser.add_argument(
        "--set-after", action="append", default=[], help="FIELD=VALUE of scenarios (rules) or settings (train) of AFTER"
    )
    parser.add_argument("--keep", type=Path, help="JSON that holds the digests of BEFORE, made if it is missing")
    arguments = parser.parse_args()
    quick, keep = arguments.quick, arguments.keep
    known: dict[str, Numbers] = json.loads(keep.read_text()) if keep and keep.exists() else {}
    differing = 0
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        before = Checkout(arguments.before, Path(one))
        after = Checkout(arguments.after, Path(other), arguments.set_after)
        for name in arguments.only or PARTS:
            part = PARTS[name]
            both = set(part.cases(after, quick))
            for case in filter(arguments.case.search, part.cases(before, quick)):
                began, key = time.monotonic(), f"{name}: {case}"
                if case not in both:
                    differing += tell(f"{key}: missing after")
                    continue
                if key not in known:
                    known[key] = part.numbers(before, case, quick)
                    if keep:
                        keep.write_text(json.dumps(known, indent=1))
                now = part.numbers(after, case, quick)
                for what in sorted(known[key].keys() - now.keys()):
                    differing += tell(f"{key}: {what}: missing after")
                for what in sorted(known[key].keys() & now.keys()):
                    if known[key][what] != now[what]:
                        differing += tell(f"{key}: {what}: differs")
                tell(f"{key}: {len(known[key].keys() & now.keys())} compared, {time.monotonic() - began:.0f} s")
    tell(f"{differing} differ")
    sys.exit(1 if differing else 0)


def tell(text: str) -> int:
    """Print a line at once; returns 1, to be counted."""
    print(text, flush=True)  # noqa: T201
    return 1


class Checkout:
    """A checkout, driven in a folder of its own.

    Args:
        root: The checkout.
        folder: Where commands run and write.
        changes: What is set in it, as FIELD=VALUE.
    """

    def __init__(self, root: Path, folder: Path, changes: Sequence[str] = ()) -> None:
        self.folder = folder
        self.changes = [word for change in changes for word in ("--set", change)]
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(root.resolve() / "src"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def edgegen(self, *arguments: str) -> str:
        """Run a command of the checkout and return what it wrote to stdout."""
        return self.python(_MAIN, *arguments)

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code with the checkout's package and return what it wrote to stdout."""
        done = self._run(code, *arguments)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def scenarios(self, quick: bool) -> dict[str, Any]:
        """Return the shipped scenarios by name, those with variants of their own."""
        file = self.folder / "scenarios.json"
        if not file.exists():
            self.edgegen("scenarios", "--json", str(file))
        found: dict[str, Any] = json.loads(file.read_text())
        return {name: data for name, data in found.items() if not quick or name in QUICK_SCENARIOS}

    def choices(self, what: str, *arguments: str) -> list[str]:
        """Return the names that a command lists when it is given an unknown one: "``what`` are this, that."."""
        message = " ".join(self._run(_MAIN, *arguments).stderr.split())
        listed = re.search(rf"{what} are ([^.]+)\.", message)
        if listed is None:
            raise RuntimeError(f"{' '.join(arguments)} lists no {what}: {message}")
        return listed[1].split(", ")

    def _run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        ran = [sys.executable, "-c", code, *arguments]
        return subprocess.run(ran, cwd=self.folder, env=self.environment, capture_output=True, text=True)


def _scenarios(checkout: Checkout, quick: bool) -> list[str]:
    return list(checkout.scenarios(quick))


def _rules(checkout: Checkout, scenario: str, quick: bool) -> Numbers:
    """Digest every metric of every episode of every rule, search and oracle."""
    file = checkout.folder / "compare.json"
    episodes = "2" if quick else "10"
    checkout.edgegen("compare", "-s", scenario, *checkout.changes, "-n", episodes, "--seed", "3", "--json", str(file))
    return {
        f"{metric} of {policy}": _digest(values)
        for policy, row in json.loads(file.read_text())["policies"].items()
        for metric, values in row["per_episode"].items()
        if metric not in WALL_TIMES
    }


def _presets(checkout: Checkout, quick: bool) -> list[str]:
    seeds = (0,) if quick else (0, 1)
    return [
        f"{method} {preset}, seed {seed}"
        for method in checkout.choices("algorithms", "train", "?")
        for preset in checkout.choices("presets", "train", method, "--preset", "?")
        for seed in seeds
    ]


def _trained(checkout: Checkout, case: str, quick: bool) -> Numbers:
    """Digest weights and episodes after a short training."""
    del quick
    method, preset, _, seed = case.replace(",", "").split()
    run = checkout.folder / case
    settings = [part for setting in SHORTER[method] for part in ("--set", setting)]
    world = "family" if (method, preset) == ("ladts", "set") else TRAINED_IN[method]
    checkout.edgegen(
        "train", method, "-s", world, "--preset", preset, "--seed", seed, "-n", "8", "--no-tracking", "--out", str(run),
        *settings, *checkout.changes,
    )  # fmt: skip
    (weights,) = run.glob("checkpoint-*/policy/*.safetensors")
    episodes = json.loads((run / "episodes.json").read_text())
    return {"weights": _digest(weights.read_bytes()), **{name: _digest(values) for name, values in episodes.items()}}


def _traced(checkout: Checkout, quick: bool) -> list[str]:
    return [name for name in checkout.scenarios(quick) if name in TRACED]


def _replayed(checkout: Checkout, scenario: str, quick: bool) -> Numbers:
    """Digest what becomes of a trace under some rules."""
    trace = checkout.folder / "trace.csv"
    chance = random.Random(7)
    rows = ["slot,edge,index,size_mbit,workload_gcycles,result_mbit"]
    for slot in range(60):
        for edge in range(checkout.scenarios(quick)[scenario]["servers"]):
            for index in range(chance.randrange(4)):
                size, work = chance.uniform(1, 5), chance.uniform(1, 30)
                rows.append(f"{slot},{edge},{index},{size:.6f},{work:.6f},{chance.uniform(0.5, 1):.6f}")
    trace.write_text("\n".join(rows) + "\n")
    found: Numbers = {}
    for rule in ("least-delay", "capacity-weighted", "opt-ts", "water-filling"):
        out, backlog = checkout.folder / "out.csv", checkout.folder / "backlog.csv"
        checkout.edgegen(
            "replay", "-s", scenario, "--trace", str(trace), "--policy", rule, "--out", str(out),
            "--backlog", str(backlog),
        )  # fmt: skip
        found |= {f"{what.stem} of {rule}": _digest(what.read_bytes()) for what in (out, backlog)}
    return found


def _rollout(checkout: Checkout, scenario: str, quick: bool) -> Numbers:
    """Digest what agents see and get in PettingZoo's environments under random actions."""
    code = _PARALLEL if "servers" in checkout.scenarios(quick)[scenario] else _TURNS
    return {"rollout": checkout.python(code, scenario).strip()}


def _digest(values: Any) -> str:
    data = values if isinstance(values, bytes) else json.dumps(values, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


_HEAD = """
import hashlib, sys
import numpy as np
digest = hashlib.sha256()
def note(value):
    if isinstance(value, dict):
        for key in sorted(value):
            note(value[key])
    else:
        digest.update(np.ascontiguousarray(np.asarray(value, dtype=np.float64)).tobytes())
chance = np.random.default_rng(5)
"""

_PARALLEL = (
    _HEAD
    + """
try:
    from edgegen.envs.pettingzoo import RoundsEnv
except ImportError:  # before there was one environment for all kinds
    from edgegen.envs.parallel import OffloadingParallelEnv as RoundsEnv
env = RoundsEnv(sys.argv[1])
observations, _ = env.reset(seed=11)
for _ in range(150):
    note(observations)
    if not env.agents:
        observations, _ = env.reset()
    servers = len(env.possible_agents)
    actions = {agent: int(chance.integers(servers)) for agent in env.possible_agents}
    observations, rewards, _, truncations, infos = env.step(actions)
    note(rewards), note(truncations), note(infos)
print(digest.hexdigest())
"""
)

_TURNS = (
    _HEAD
    + """
try:
    from edgegen.envs.pettingzoo import TurnsEnv
except ImportError:
    from edgegen.envs.turns import ProvisioningTurns as TurnsEnv
env = TurnsEnv(sys.argv[1])
env.reset(seed=11)
for _ in range(200):
    agent = env.agent_selection
    observation, reward, terminated, truncated, info = env.last()
    note(observation), note(reward), note(truncated), note(info)
    space = env.action_space(agent)
    if truncated:
        env.reset()
    elif type(space).__name__ == "Discrete":
        env.step(int(chance.integers(space.n)))
    elif type(space).__name__ == "MultiBinary":
        env.step((chance.random(space.shape) < 0.4).astype(np.int8))
    else:
        env.step(chance.uniform(space.low, space.high).astype(np.float32))
print(digest.hexdigest())
"""
)

PARTS = {
    "pettingzoo": Part(_scenarios, _rollout),
    "replay": Part(_traced, _replayed),
    "train": Part(_presets, _trained),
    "rules": Part(_scenarios, _rules),
}

if __name__ == "__main__":
    main()
