# SPDX-License-Identifier: Apache-2.0
"""How the commands of the pages are treated. Whatever is not named here runs word for word.

- SUBSTITUTES change words that can not hold on a machine that tests, such as a port or the place of a model.
- `shorten` lowers numbers of a command after it has been parsed as written.
- SERVICES run until they are stopped: they are started, asked, and stopped by their process id.
- ELSEWHERE needs what a test does not have (a cluster, containers, the network), or is what runs the tests. It is
  checked as far as that goes: bash parses it, and the files, targets and objects that it names exist.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

PORT = "EDGEGEN_DOCS_PORT"
MLFLOW_PORT = "EDGEGEN_DOCS_MLFLOW_PORT"
POLICY = "EDGEGEN_DOCS_POLICY"


@dataclass(frozen=True)
class Substitute:
    """Words that are replaced before a command runs, and why."""

    words: str
    by: str
    reason: str


SUBSTITUTES = (
    Substitute(r"for seed in 0 1 2 3 4;", "for seed in 0;", "one seed shows that the words are right"),
    Substitute(r"\{0,1,2,3,4\}", "0", "the same"),
    Substitute(r"(?<= )\.\.\.(?= |$)", "", "the page says that more rules follow"),
    Substitute(r"(?<=://)(127\.0\.0\.1|localhost):8000", f"127.0.0.1:${PORT}", "other services may use port 8000"),
    Substitute(r"^edgegen generate", f"edgegen generate --url http://127.0.0.1:${PORT}", "the same"),
    Substitute(r"^mlflow ui", f"mlflow ui --workers 1 --port ${MLFLOW_PORT}", "the same for port 5000; one reader"),
    Substitute(r"/models/my-pipeline", "serve/zoo/models/shapes-64", "stands for a model of the reader's"),
    Substitute(r"/policies/best", f"${POLICY}", "stands for a policy of the reader's"),
)


@contextmanager
def shorten(command: str, values: dict[str, Any]) -> Iterator[None]:
    """Lower the numbers of a parsed command, so that it takes a second or two and means the same.

    Training plays two copies for one iteration, evaluation one or two episodes, a sweep has one trial, the
    demonstration and the benchmark are the quick ones, and a service is built and checked but not started
    (SERVICES says when one is). A study is planned and listed, but for a page's own in its quick size, and faults are
    looked up but not caused: tests of their own run both.
    """
    patches: list[Any] = []
    if command == "train":
        values["episodes"] = 4 if values["resume"] else 1
        values["num_env_runners"] = min(values["num_env_runners"], 1)
        values["num_learners"], values["gpus_per_learner"] = 0, 0.0
        if not values["resume"]:
            tuned = ["tune_trials=2", "tune_episodes=1"] if values["algorithm"] == "fleet" else []
            values["settings"] = [*(values["settings"] or []), "copies=2", *tuned]
    elif command in ("compare", "evaluate"):
        values["episodes"] = min(values["episodes"], 2)
        if "t2drl" in values["scenario"]:  # searches of every slot
            values["episodes"] = 1
            values["settings"] = [*(values["settings"] or []), "frames=1"]
    elif command == "profile":
        values |= {"steps": "1,2,4", "pictures": 2, "repeats": 1}
    elif command == "bench":
        from edgegen.platform.bench import fleet, measuring, offloading, provisioning, suite

        values |= {"quick": True, "device": "cpu", "peers": False}
        fewer: list[tuple[Any, str, Any]] = [(measuring, "COPIES", (1, 2)), (offloading, "POLICY_COPIES", 2)]
        fewer += [(provisioning, "UPDATES", 1), (fleet, "COPIES", 2), (fleet, "SIZES", (2, 3))]
        patches = [mock.patch.object(module, name, value) for module, name, value in fewer]
        patches.append(mock.patch.object(suite, "run_bench", functools.partial(suite.run_bench, training=False)))
    elif command == "loadtest":
        values |= {"sequences": 1, "settings": [*(values["settings"] or []), "frames=1"]}
    elif command == "demo":
        values |= {"quick": True, "with_service": False, "keep": False}
    elif command == "sweep":
        small = ["budget.trials=1", "budget.episodes=2", "budget.report_every=2", "settings.copies=2"]
        small += ["scheduler={kind: none}", "searcher={kind: random}", "seeds=[0]", "retrain.seeds=[101]"]
        small += ["retrain.finalists=1", "retrain.control=false", "validation.episodes=2", "evaluation.episodes=2"]
        values["settings"] = [*(values["settings"] or []), *small]
        if values["storage"]:  # there is no bucket here; tests/platform has a server of its own
            values["storage"] = (Path.cwd() / "store").as_uri()
    elif command == "scaling":
        values |= {"runners": [1], "rounds": 1, "repeats": 3}
    elif command == "reproduce":
        own = values["study"].endswith(".yaml") and values["quick"]  # tiny, and read again by what follows on the page
        values |= {"jobs": 1, "tracking": False} if own else {"list_only": True}
    elif command == "chaos":
        from edgegen.platform.commands import chaos

        came_through = {"fault": "head", "came_through": True}
        patches = [mock.patch.object(chaos, "_train", return_value=[])]
        patches.append(mock.patch.object(chaos, "_serve", create=True, return_value=came_through))
    elif command == "generate":
        values |= {"count": 1, "steps": 2}
    elif command == "serve":
        from edgegen.serve import running

        patches = [mock.patch.object(running, "running_service", _built)]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def _built(service: Any, port: int, *, host: str, address: str | None = None, ready_timeout_s: float) -> Any:
    """Build the application, which checks models and policy, and end there as Ctrl-C would."""
    from edgegen.serve.app import build

    del port, host, address, ready_timeout_s
    build(service)
    raise SystemExit(0)


SERVICES = (r"^mlflow ui ",)
"""Started each time they appear. `edgegen serve` is started once, for the first command that asks a service."""

CLIENTS = (r"^edgegen generate", r"^curl .*127\.0\.0\.1")
"""What asks a running service."""


@dataclass(frozen=True)
class Elsewhere:
    """Commands that are checked and not run, and why."""

    words: str
    reason: str


ELSEWHERE = (
    Elsewhere(
        r"^make (demo|lint|install|bench|clean|docs|docs-versions|release-check)\b",
        "installs, or is run by other tests; `make -n`",
    ),
    Elsewhere(r"^make (test|soak|coverage|same-numbers)\b", "is what runs the tests; `make -n`"),
    Elsewhere(r"^make k8s-render\b", "tests/k8s renders the same overlays; `make -n`"),
    Elsewhere(r"^(\w+=\S+ )?(\.venv/bin/)?(python -m )?pytest\b", "is what runs the tests"),
    Elsewhere(r"^(python|python3) -m venv\b", "installs"),
    Elsewhere(r"^(\.venv/bin/)?(python -m )?pip install\b", "installs"),
    Elsewhere(r"^\.venv/bin/pre-commit install", "changes the repository's hooks"),
    Elsewhere(r"^git (clone|tag|push)\b", "needs a remote repository"),
    Elsewhere(r"^ray start\b", "joins machines to a cluster"),
    Elsewhere(r"^kubectl (?!kustomize)", "needs a cluster"),
    Elsewhere(r"^ray job submit\b", "needs a cluster"),
    Elsewhere(r"^for name in redis postgres; do\s+kubectl", "needs a cluster"),
    Elsewhere(r"^mkdir crds && for kind in", "needs a cluster"),
    Elsewhere(r"^(kind|docker|helm) ", "needs a container runtime or a chart from the network"),
    Elsewhere(r"^serve run ", "a second service; its arguments are built instead"),
    Elsewhere(r"^edgegen profile --model org/model", "downloads a model, needs a GPU"),
)

GIVEN = {
    "trace.csv": "slot,edge,index,size_mbit,workload_gcycles,result_mbit\n"
    "0,0,0,3,1,0.8\n0,2,0,4,2,0.8\n1,4,0,3,2,0.8\n",
    "requests.csv": "arrival_s,model,steps\n0,cat,20\n1.5,dog,30\n4,cat,20\n9,cat,25\n",
    "lora_request_trace.csv": "gmt_create,num_images_per_prompt,num_inference_steps,checkpoint_model_version_id\n"
    + "".join(f"2024-11-15 18:{minute}:14,4.0,30.0,M000{minute % 4}\n" for minute in range(10, 60)),
    "AzureLLMInferenceTrace_conv.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n",
}
"""Files of the reader's own that commands take."""

QUICK = (
    "docs/reproduce.md",
    "docs/results/reproduce-ladts-quick.md",
    "docs/results/reproduce-ladts.md",
    "docs/results/reproduce-t2drl-quick.md",
    "docs/results/reproduce-t2drl.md",
    "docs/simulator.md",
    "docs/t2drl.md",
)
"""Pages that run every time. The others train, sweep and serve at length what tests of their own do in short: they run
in `make soak`, and `test_pages.py` looks up their commands and options every time."""

PREPARED = {
    "docs/sweeps.md": (
        "edgegen sweep tune_configs/ladts.yaml --set budget.trials=12 --address auto",
        "edgegen train ladts -s demo --seed 0",
    ),
}
"""What a page takes for granted: runs first, unless it ran already."""

PRELUDES = {
    "docs/results/t2drl.md": (
        "from edgegen.algorithms.rules.caching_optimum import plan_caching\n"
        "from edgegen.envs.core.scenarios import load_scenario\n"
        "from edgegen.envs.provisioning.world import ProvisioningWorld\n"
    ),
}
"""Imports that the Python of a page leaves out."""

_OWN_PORT = f"\"http://127.0.0.1:\" + __import__('os').environ['{PORT}'] + \""
PYTHON_SUBSTITUTES = (
    Substitute(r'"http://127\.0\.0\.1:8000', _OWN_PORT, "other services may use port 8000"),
    Substitute(r"total_timesteps=[\d_]+", "total_timesteps=1_000", "the time of the learner"),
    Substitute(r"\bEPISODES = \d+", "EPISODES = 1", "episodes of an evaluation"),
    Substitute(r'(?<=cells3"\), )8\)', "1)", "copies of the oracle's plan"),
)


def substitute(text: str, table: tuple[Substitute, ...] = SUBSTITUTES) -> str:
    """Replace what can not hold on a machine that tests."""
    for entry in table:
        text = re.sub(entry.words, entry.by, text, flags=re.MULTILINE)
    return text


def elsewhere(text: str) -> Elsewhere | None:
    """The entry of a command that is not run here."""
    return next((entry for entry in ELSEWHERE if re.search(entry.words, text)), None)


def matches(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns fits."""
    return any(re.search(pattern, text) for pattern in patterns)
