# SPDX-License-Identifier: Apache-2.0
"""A kind from outside of the package is served, with what its own entry says of it."""

import json
from pathlib import Path

import pytest
import yaml

from tests.toy.toy_process import HERE, RULES, run

MODEL = {"cycles_per_step_gcycles": 0.1, "sizes": ["16x16"], "default_steps": 10}
EDGES = [{"name": f"edge-{letter}", "model": "tiny", "capacity_gcycles_s": c} for letter, c in (("a", 1.0), ("b", 0.5))]


def config(folder: Path) -> str:
    """Write the file of a service; returns its name."""
    service = {"kind": "toy", "models": {"tiny": MODEL}, "edges": EDGES, "policy": "shortest"}
    (folder / "toy.yaml").write_text(yaml.safe_dump(service), encoding="utf-8")
    return "toy.yaml"


def test_its_requests_are_placed_by_its_own_policies(tmp_path: Path) -> None:
    """Jobs of 1 Gcycle, ten a second, at edges of 1 and 0.5 Gcycle/s."""
    ran = run(
        tmp_path,
        ("world:KIND", "method:METHOD", *RULES, "live:SERVED"),
        HERE / "serve_with_slow_edges.py",
        config(tmp_path),
    )
    assert ran.returncode == 0, ran.stderr
    done = json.loads(ran.stdout.splitlines()[-1])
    shortest = done["shortest"]
    # Waits of both edges as each request comes, s: (0, 0), (0.9, 0), (0.8, 1.9), (1.7, 1.8), (2.6, 1.7).
    assert shortest["servers"] == ["edge-a", "edge-b", "edge-a", "edge-a", "edge-b"]
    assert shortest["waits_s"] == pytest.approx([1.0, 2.0, 1.8, 2.7, 3.7], abs=0.2)
    for policy in ("shortest", "coin", "bandit"):
        assert done[policy]["fallbacks"] == [None] * 5
        assert done[policy]["decisions"] == 5
    assert set(done["coin"]["servers"]) == {"edge-a", "edge-b"}
    assert done["speeds"] == [1.0, 0.5]
    assert done["trains in the same"]


@pytest.mark.parametrize(
    ("plugins", "policy", "sentence"),
    [
        (("world:KIND", *RULES), "shortest", "'kind' is 'toy', but worlds of the kind toy can not be served yet."),
        (
            ("world:KIND", *RULES, "live:SERVED"),
            "local",
            "is for offloading, but scenario 'toy' is of the kind toy; rules for it",
        ),
        (("world:KIND", *RULES, "live:SERVED"), "x", "Unknown policy 'x'; give a rule (coin, shortest) or the folder"),
    ],
)
def test_what_can_not_be_served_is_refused_in_a_sentence(
    tmp_path: Path, plugins: tuple[str, ...], policy: str, sentence: str
) -> None:
    command = ("-m", "edgegen.platform.cli", "serve", "--config", config(tmp_path), "--policy", policy)
    ran = run(tmp_path, plugins, *command)
    assert ran.returncode == 2, ran.stderr
    assert sentence in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
