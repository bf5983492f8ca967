# SPDX-License-Identifier: Apache-2.0
"""Fleets that replay recordings: the load, what is played, determinism, and that nothing changes without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.fleet.draws import ASKED, NOISE, Requests, draw_requests
from edgegen.envs.fleet.recorded import RECORDING_FOLDER
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.traces import Trace
from tests.envs.fleet.fleets import MODELS, small


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A trace of 40 requests for five models, of which one is asked for by every second request."""
    rng = np.random.default_rng(1)
    columns = {
        "arrival_s": np.sort(rng.random(40) * 100),
        "model": np.array(["hot", "a", "hot", "b", "hot", "c", "hot", "d"] * 5, dtype=object),
        "pictures": rng.integers(1, 5, 40).astype(np.float64),
        "steps": rng.integers(5, 40, 40).astype(np.float64),
        "work": rng.random(40) + 0.5,
    }
    path = tmp_path / "mine.parquet"
    path.write_bytes(Trace.of(columns, "Trace", str).to_parquet({}))
    return str(path)


def work_s(scenario: FleetScenario, requests: Requests, episode: int) -> float:
    """Arrived work of an episode, s."""
    some = slice(requests.number[episode])
    model, pictures = requests.model[episode, some], requests.pictures[episode, some]
    fixed_s, step_s = (np.array([getattr(m, n) for m in scenario.kinds_of_models]) for n in ("fixed_s", "step_s"))
    steps_s = step_s[model] * requests.more[episode, some, ASKED]
    if scenario.further_picture is None:
        own = pictures * (fixed_s[model] + steps_s)
    else:
        own = fixed_s[model] + steps_s * (1 + scenario.further_picture * (pictures - 1))
    return float((own * requests.more[episode, some, NOISE]).sum())


def test_without_a_recording_nothing_changes() -> None:
    requests = draw_requests(small(), 1, range(2))
    assert requests.number.tolist() == [36, 25]
    assert requests.arrival_s[:, 1].tolist() == [0.80236416113453, 1.4935913244209285]
    assert requests.model[:, :6].tolist() == [[0, 1, 0, 0, 0, 0], [2, 0, 0, 1, 2, 2]]
    assert requests.home[:, :6].tolist() == [[1, 0, 0, 0, 0, 0], [0, 2, 2, 2, 1, 2]]


@pytest.mark.parametrize("together", [{}, {"further_picture": 0.25}], ids=["one by one", "together"])
@pytest.mark.parametrize(
    "columns",
    [None, [], ["model"], ["pictures"], ["steps"], ["work"], ["pictures", "steps"], ["model", "work"]],
    ids=str,
)
def test_many_turns_of_a_recording_have_the_load_of_the_world(
    file: str, columns: list[str] | None, together: dict[str, Any]
) -> None:
    amounts = {"pictures": {"low": 2, "high": 2}, **together}
    models = [{**MODELS[0], "fixed_s": 0.3}, MODELS[1], {**MODELS[0], "full_steps": 14}]
    scenario = small(recorded={"trace": file, "columns": columns}, models=models, load=0.5, frames=4000, **amounts)
    requests = draw_requests(scenario, 5, range(2))
    for episode in range(2):
        load = work_s(scenario, requests, episode) / (scenario.duration_s * sum(scenario.site_speed))
        assert load == pytest.approx(0.5, rel=0.015)
        assert requests.number[episode] > 2000  # 50 turns


def test_episodes_are_drawn_by_seed_and_number_alone(file: str) -> None:
    scenario = small(recorded={"trace": file})
    alone, beside = draw_requests(scenario, 7, range(3, 4)), draw_requests(scenario, 7, range(5))
    count = alone.number[0]
    assert count == beside.number[3]
    for one, other in zip(alone[1:-1], beside[1:-1], strict=True):
        np.testing.assert_array_equal(one[0], other[3, :count])
    begins = {tuple(row[:3]) for row in draw_requests(scenario, 7, range(20)).arrival_s}
    assert len(begins) == 20
    assert (beside.number <= scenario.requests_at_most).all()


def test_the_sequence_of_the_recording_is_kept(file: str) -> None:
    scenario = small(recorded={"trace": file}, models=[{**MODELS[0], "size_gb": 1}] * 6, frames=40)
    assert scenario.recorded is not None
    trace = scenario.recorded.requests
    assert trace.rank is not None
    assert trace.pictures is not None
    requests = draw_requests(scenario, 2, range(6))
    for e in range(6):
        some = slice(requests.number[e])
        steps, pictures = requests.more[e, some, ASKED], requests.pictures[e, some]
        shift = next(n for n in range(40) if _follows(trace, n, steps))
        at = (np.arange(len(steps)) + shift) % 40
        np.testing.assert_array_equal(pictures, trace.pictures[at])
        pairs = set(zip(trace.rank[at].tolist(), requests.model[e, some].tolist(), strict=True))
        assert len(pairs) == len({rank for rank, _ in pairs}) == len({model for _, model in pairs})
        gap_s = np.diff(requests.arrival_s[e, some])
        recorded_s = np.diff(trace.arrival_s, append=trace.period_s)[at[:-1]]
        np.testing.assert_allclose(gap_s / gap_s.sum(), recorded_s / recorded_s.sum(), atol=1e-9)


def _follows(trace: Trace, shift: int, steps: np.ndarray) -> bool:
    assert trace.steps is not None
    return bool((trace.steps[(np.arange(len(steps)) + shift) % len(trace)] == steps).all())


def test_the_most_popular_model_changes_with_the_episode_and_many_models_share_few(file: str) -> None:
    scenario = small(recorded={"trace": file, "columns": ["model"]}, frames=400)
    requests = draw_requests(scenario, 2, range(12))
    first = [int(np.bincount(requests.model[e, : requests.number[e]]).argmax()) for e in range(12)]
    assert set(first) == {0, 1, 2}
    share = np.bincount(requests.model[0, : requests.number[0]]) / requests.number[0]
    # hot and the last of five are the first of three again: 20 + 5 of 40; the others 10 and 5
    assert np.sort(share) == pytest.approx([0.125, 0.25, 0.625], abs=0.03)


def test_a_saved_world_stands_alone(file: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: fleet-8\n"
        "recorded: {trace: mine.parquet, columns: [model]}\n"
        "variants: {all: {recorded.columns: null}}\n"
    )
    world, whole = load_scenario(tmp_path / "mine.yaml"), load_scenario(f"{tmp_path / 'mine.yaml'}:all")
    Path(file).unlink()
    again = build_scenario(world.model_dump(mode="json"))
    assert again == world
    for one, other in zip(draw_requests(world, 1, range(2)), draw_requests(again, 1, range(2)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.recorded.plays("work")
    assert not world.recorded.plays("work")


def test_another_trace_in_a_saved_world_is_read(file: str) -> None:
    data = small(recorded={"trace": file}).model_dump(mode="json")
    data["recorded"]["trace"] = "azure-llm-code-2023"
    changed = build_scenario(data, FleetScenario)
    assert changed == small(recorded={"trace": "azure-llm-code-2023"})
    assert changed.recorded is not None
    assert len(changed.recorded.requests) == 8819


def test_shipped_traces_are_small_and_come_with_their_licence() -> None:
    files = sorted(RECORDING_FOLDER.glob("*.parquet"))
    assert [path.stem for path in files] == ["azure-llm-code-2023", "azure-llm-conv-2023"]
    assert sum(path.stat().st_size for path in files) < 400_000
    text = (RECORDING_FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(path.name in text for path in files)
    assert "creativecommons.org/licenses/by/4.0" in text
    sizes = {}
    for path in files:
        trace = Trace.from_parquet(path.read_bytes(), path.name)
        sizes[path.stem] = len(trace)
        assert trace.columns == ("work",)
    assert sizes == {"azure-llm-code-2023": 8819, "azure-llm-conv-2023": 19366}


@pytest.mark.parametrize(
    ("recorded", "changes", "says"),
    [
        ({"trace": "azure"}, {}, "nknown recording 'azure'; shipped ones are azure-llm-code-2023, azure-llm-conv-2023"),
        ({"trace": "no.parquet"}, {}, "there is no recording file 'no.parquet'"),
        ({}, {}, "recorded.trace"),
        ({"trace": 7}, {}, "recorded.trace"),
        ({"trace": "azure-llm-conv-2023", "columns": ["model"]}, {}, "can be played: work"),
        ({"trace": "azure-llm-conv-2023", "columns": ["tokens"]}, {}, "recorded.columns.0"),
        ({"trace": "azure-llm-conv-2023", "content": "azure-llm-conv-2023:*"}, {}, "has a content that is no base64"),
        (
            {"trace": "azure-llm-conv-2023", "content": "azure-llm-conv-2023:" + "A" * 4000},
            {},
            "is no Parquet file that can be read",
        ),
        (
            {"trace": "azure-llm-conv-2023", "content": "azure-llm-conv-2023:AAAA"},
            {},
            "is no Parquet file that can be read",
        ),
        ({"trace": "azure-llm-conv-2023"}, {"bursts": {}}, "recorded stands instead of bursts and day"),
        ({"trace": "azure-llm-conv-2023"}, {"day": {"period_s": 9}}, "recorded stands instead of bursts and day"),
        ({"trace": "azure-llm-conv-2023"}, {"load": 1e9}, "requests in an episode"),
        ("azure-llm-conv-2023", {}, "recorded"),
    ],
)
def test_impossible_recordings_are_refused_in_a_sentence(recorded: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        small(recorded=recorded, **changes)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500  # the content of a trace is not shown
