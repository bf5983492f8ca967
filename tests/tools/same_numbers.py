"""Whether two checkouts compute the same numbers, bit for bit: the safety net of every redesign.

    python tests/tools/same_numbers.py BEFORE AFTER             # both are checkouts; prints what differs
    python tests/tools/same_numbers.py BEFORE AFTER --quick     # two scenarios, one seed, minutes instead of an hour

Both are driven from outside, by their command lines and their PettingZoo environments, so that nothing inside has to
keep its name. Compared are the episodes of every rule, search and oracle in every scenario (``compare``), weights and
episodes of every preset after some training (``train``), replayed traces (``replay``) and rollouts of every PettingZoo
environment. The Python that runs this script runs both checkouts; it needs the libraries of ``make install``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRESETS = {
    "ladts": ("paper", "improved", "set", "d2sac-ts", "sac-ts", "dqn-ts", "agod"),
    "t2drl": ("paper", "two-timescale", "improved", "ddpg"),
}
TRAINED_IN = {"ladts": "demo", "t2drl": "t2drl-contended"}
SHORTER = {  # fewer transitions before the first update, so that eight episodes hold many
    "ladts": ("slots=40", "replay_warmup=100"),
    "t2drl": ("frames=4", "slots_per_frame=5", "replay_warmup=64", "frame_warmup=8", "epsilon_hold_episodes=0"),
}
TRACED = ("demo", "links", "failing", "stale")
WALL_TIMES = ("decision_wall_s", "decisions_per_s")
QUICK_SCENARIOS = ("demo", "t2drl-contended")

_MAIN = "import sys; from edgegen.platform.cli import main; sys.argv[0] = 'edgegen'; main()"

Numbers = dict[str, str]
"""Digests by what they are of."""


def main() -> None:
    """Compare two checkouts; exits with 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--quick", action="store_true", help="two scenarios, one seed, two episodes of rules")
    parser.add_argument("--only", choices=[*PARTS], action="append", help="part to compare; repeatable")
    parser.add_argument("--keep", type=Path, help="JSON that holds the digests of BEFORE, made if it is missing")
    arguments = parser.parse_args()
    parts = arguments.only or [*PARTS]
    differing = 0
    known: Numbers = json.loads(arguments.keep.read_text()) if arguments.keep and arguments.keep.exists() else {}
    for part in parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            before = {name: value for name, value in known.items() if name.startswith(f"{part}: ")}
            before = before or dict(PARTS[part](_Checkout(arguments.before, Path(one)), arguments.quick))
            after = dict(PARTS[part](_Checkout(arguments.after, Path(other)), arguments.quick))
        known |= before
        different = [name for name in before | after if before.get(name) != after.get(name)]
        differing += len(different)
        print(f"{part}: {len(before)} compared, {len(different)} differ, {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
        for name in different:
            sides = ("missing before", "missing after", "differs")
            print(f"  {sides[0 if name not in before else 1 if name not in after else 2]}: {name}")  # noqa: T201
        if arguments.keep:
            arguments.keep.write_text(json.dumps(known, indent=1))
    sys.exit(1 if differing else 0)


class _Checkout:
    """A checkout, driven in a folder of its own.

    Args:
        root: The checkout.
        folder: Where commands run and write.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(root.resolve() / "src"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def edgegen(self, *arguments: str) -> str:
        """Run a command of the checkout and return what it wrote to stdout."""
        return self._run("-c", _MAIN, *arguments)

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code with the checkout's package and return what it wrote to stdout."""
        return self._run("-c", code, *arguments)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments[2:])} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def scenarios(self, quick: bool) -> dict[str, Any]:
        """Return the shipped scenarios by name, those with variants of their own."""
        file = self.folder / "scenarios.json"
        if not file.exists():
            self.edgegen("scenarios", "--json", str(file))
        found: dict[str, Any] = json.loads(file.read_text())
        return {name: data for name, data in found.items() if not quick or name in QUICK_SCENARIOS}


def _rules(checkout: _Checkout, quick: bool) -> Iterator[tuple[str, str]]:
    """Digest every metric of every episode of every rule, search and oracle in every scenario."""
    for scenario in checkout.scenarios(quick):
        file = checkout.folder / "compare.json"
        checkout.edgegen("compare", "-s", scenario, "-n", "2" if quick else "10", "--seed", "3", "--json", str(file))
        for policy, row in json.loads(file.read_text())["policies"].items():
            values = {name: value for name, value in row["per_episode"].items() if name not in WALL_TIMES}
            yield f"rules: {policy} in {scenario}", _digest(json.dumps(values, sort_keys=True).encode())


def _trainings(checkout: _Checkout, quick: bool) -> Iterator[tuple[str, str]]:
    """Digest weights and episodes of every preset."""
    for method, presets in PRESETS.items():
        for preset in presets:
            for seed in (0,) if quick else (0, 1):
                world = "family" if preset == "set" else TRAINED_IN[method]
                run = checkout.folder / f"{method}-{preset}-{seed}"
                copies = ("--set", "copies=2")
                settings = [part for setting in SHORTER[method] for part in ("--set", setting)]
                checkout.edgegen(
                    "train", method, "-s", world, "--preset", preset, "--seed", str(seed), "-n", "8", "--no-tracking",
                    "--out", str(run), *settings, *copies,
                )  # fmt: skip
                (weights,) = run.glob("checkpoint-*/policy/*.safetensors")
                what = f"{method} {preset}, seed {seed}"
                yield f"train: weights of {what}", _digest(weights.read_bytes())
                yield f"train: episodes of {what}", _digest((run / "episodes.json").read_bytes())


def _replays(checkout: _Checkout, quick: bool) -> Iterator[tuple[str, str]]:
    """Digest what becomes of a trace under every rule."""
    worlds = {name: data for name, data in checkout.scenarios(quick).items() if name in TRACED}
    for scenario, data in worlds.items():
        trace = checkout.folder / "trace.csv"
        chance = random.Random(7)
        rows = ["slot,edge,index,size_mbit,workload_gcycles,result_mbit"]
        for slot in range(60):
            for edge in range(data["servers"]):
                for index in range(chance.randrange(4)):
                    size, work = chance.uniform(1, 5), chance.uniform(1, 30)
                    rows.append(f"{slot},{edge},{index},{size:.6f},{work:.6f},{chance.uniform(0.5, 1):.6f}")
        trace.write_text("\n".join(rows) + "\n")
        for rule in ("least-delay", "capacity-weighted", "opt-ts", "water-filling"):
            out, backlog = checkout.folder / "out.csv", checkout.folder / "backlog.csv"
            checkout.edgegen(
                "replay", "-s", scenario, "--trace", str(trace), "--policy", rule, "--out", str(out),
                "--backlog", str(backlog),
            )  # fmt: skip
            yield f"replay: {rule} in {scenario}", _digest(out.read_bytes() + backlog.read_bytes())


def _rollouts(checkout: _Checkout, quick: bool) -> Iterator[tuple[str, str]]:
    """Digest what agents see and get in PettingZoo's environments under random actions."""
    for scenario, data in checkout.scenarios(quick).items():
        code = _PARALLEL if "servers" in data else _TURNS
        yield f"pettingzoo: {scenario}", checkout.python(code, scenario).strip()


def _digest(data: bytes) -> str:
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
    elif agent.startswith("cacher"):
        env.step((chance.random(space.n) < 0.4).astype(np.int8))
    else:
        env.step((chance.random(space.shape) * 2 - 1).astype(np.float32))
print(digest.hexdigest())
"""
)

PARTS = {"pettingzoo": _rollouts, "replay": _replays, "train": _trainings, "rules": _rules}

if __name__ == "__main__":
    main()
