# SPDX-License-Identifier: Apache-2.0
"""What commands import: each only what it uses, because imports are most of what a short command costs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
os.chdir(sys.argv[1])
seen = {}
for name, words in json.loads(sys.argv[2]).items():
    from edgegen.platform.cli import app
    try:
        app(words)
    except SystemExit as end:
        assert not end.code, (name, end.code)
    seen[name] = sorted(sys.modules)
    if "ray" in sys.modules:
        assert not sys.modules["ray"].is_initialized(), name
with open("seen.json", "w", encoding="utf-8") as file:
    json.dump(seen, file)
"""
TRAIN = ["train", "-s", "demo", "-n", "1", "--set", "copies=1", "--set", "slots=2", "--no-tracking"]
COMMANDS = {  # one after the other in one process, so that each begins with what those before it have imported
    "help": ["--help"],
    "compare": ["compare", "-s", "demo", "-n", "2", "local", "least-delay"],
    "train": [*TRAIN, "--out", "run"],
    "resume": ["train", "--resume", "run", "-n", "2", "--no-tracking"],
}
MOST = {"help": 340, "compare": 1700, "train": 3680, "resume": 3690}
"""Most modules after each command; what was counted, and some for other versions of libraries."""
NEVER = {
    "help": {"numpy", "torch", "ray", "scipy", "matplotlib", "mlflow", "numba", "pandas"},
    "compare": {"ray", "matplotlib", "mlflow", "numba", "pandas", "scipy.stats", "cmaes", "sympy"},
    "train": {"mlflow", "numba", "scipy.stats", "cmaes", "sympy", "torch._dynamo", "torch._inductor", "aiohttp",
              "ray.train.torch", "ray.serve", "edgegen.algorithms.rllib.ray_session"},
}  # fmt: skip
NEVER["resume"] = NEVER["train"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    folder = tmp_path_factory.mktemp("start-up")
    environment = {**os.environ, "EDGEGEN_PLUGINS": ""}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), json.dumps(COMMANDS)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, list[str]] = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    return {name: set(modules) for name, modules in found.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_what_it_uses(imported: dict[str, set[str]], command: str) -> None:
    assert NEVER[command] & imported[command] == set()
    own = {name for name in imported[command] if "coverage" not in name}  # which may watch this process
    assert len(own) <= MOST[command]


def test_the_process_ends_with_the_code_of_the_command_and_after_what_was_registered(tmp_path: Path) -> None:
    script = """
import atexit, sys, threading, time
from edgegen.platform.process import leave
atexit.register(lambda: print("registered first"))
atexit.register(lambda: print("registered last"))
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
leave(int(sys.argv[1]))
"""
    for code in (0, 2):
        run = subprocess.run(
            [sys.executable, "-c", script, str(code)], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (run.returncode, run.stderr) == (code, "")
        assert run.stdout.splitlines() == ["thread", "registered last", "registered first"]
