# SPDX-License-Identifier: Apache-2.0
"""What a load test sends: by itself, in bursts, or as it was recorded, with pictures and steps."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.envs.fleet.draws import ASKED
from edgegen.envs.fleet.traces import Trace
from edgegen.platform.cli import app
from edgegen.platform.figures.plots import plot_delays
from edgegen.platform.runs.live_comparison import TRAFFIC, world_of
from edgegen.serve.config import load_config
from edgegen.serve.load.sequence import sequence_of

EDGES, SPEED = ("edge-a", "edge-b", "edge-c"), (2.0, 1.0, 0.5)


def asked(arrivals: str | None, **traffic: Any) -> Any:
    config = load_config("fleet")
    world = world_of(config, SPEED, arrivals, {"frames": 40, **traffic})
    return world, sequence_of(world, EDGES, tuple(config.models), lambda model, rng: model, 1).asked


def trace_file(folder: Path, names: tuple[str, ...]) -> str:
    """Forty requests, one a second; all for four pictures with seven steps, models in turn."""
    columns = {
        "arrival_s": np.arange(40.0),
        "model": np.array([names[k % len(names)] for k in range(40)], dtype=object),
        "pictures": np.full(40, 4.0),
        "steps": np.full(40, 7.0),
    }
    path = folder / "trace.parquet"
    path.write_bytes(Trace.of(columns, "Trace", str).to_parquet({}))
    return str(path)


def dispersion(requests: Any, window_s: float) -> float:
    count = np.bincount((np.array([one.at_s for one in requests]) / window_s).astype(int))
    return float(count.var() / count.mean())


def test_by_itself_or_in_bursts() -> None:
    alone, bursty, usual = asked("poisson"), asked("bursty"), asked(None)
    assert alone[0].bursts is None
    assert bursty[0].bursts.model_dump() == TRAFFIC["bursts"]
    assert usual[1] == bursty[1]
    assert dispersion(alone[1], 5) < 2 < dispersion(bursty[1], 5)
    assert {(one.pictures, one.steps) for one in alone[1]} == {(1, None)}


def test_recording_of_the_same_models_is_sent_as_it_was(tmp_path: Path) -> None:
    names = tuple(load_config("fleet").models)
    path = trace_file(tmp_path, names)
    world, requests = asked(path, frames=4)  # 20 s
    assert [round(b.at_s - a.at_s, 3) for a, b in pairwise(requests)] == [1.0] * 19
    order = [names.index(one.model) for one in requests]
    assert [(b - a) % 3 for a, b in pairwise(order)].count(1) >= 18  # 40 is no multiple of 3
    assert {(one.pictures, one.steps) for one in requests} == {(4, 7)}
    assert (world.recorded.requests.steps == 7).all()
    twice, _ = asked(path, load=2 * world.load)
    assert twice.load == pytest.approx(2 * world.load)


def test_recording_of_others_is_taken_by_popularity(tmp_path: Path) -> None:
    world, requests = asked(trace_file(tmp_path, ("x", "y")))
    assert world.recorded.names == ()
    assert world.load == TRAFFIC["load"]
    assert len({one.model for one in requests}) == 2
    assert asked("azure-llm-conv-2023")[0].recorded.trace == "azure-llm-conv-2023"


def test_steps_that_the_world_draws_are_sent() -> None:
    world, requests = asked("poisson", asked_steps={"low": 3, "high": 5})
    config = load_config("fleet")
    drawn = sequence_of(world, EDGES, tuple(config.models), lambda model, rng: model, 1).drawn
    assert [one.steps for one in requests] == drawn.more[0, : len(requests), ASKED].astype(int).tolist()
    assert {one.steps for one in requests} == {3, 4, 5}


def test_unknown_arrivals_are_refused_before_anything_starts() -> None:
    with pytest.raises(InputError, match="Unknown recording 'poison'"):
        world_of(load_config("fleet"), SPEED, "poison")
    result = CliRunner().invoke(app, ["loadtest", "--policy", "earliest", "--arrivals", "nobody"])
    assert result.exit_code == 2
    assert "Arrivals are poisson or bursty, too." in result.output.replace("\n", " ")


def test_delays_are_drawn(tmp_path: Path) -> None:
    delays_s = {"a": np.array([1.0, 2.0, np.inf]), "b": np.array([np.inf, np.inf, np.inf])}
    files = plot_delays(delays_s, tmp_path / "x.png")
    assert [file.suffix for file in files] == [".png", ".svg"]
    assert all(file.stat().st_size > 1000 for file in files)
