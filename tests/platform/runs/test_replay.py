# SPDX-License-Identifier: Apache-2.0
"""Replay: hand-computed delays, a plain Python oracle, the simulator's own numbers, and files left as promised."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.platform.runs.replay import replay
from tests.envs.offloading.traces import write_trace

HEADER = "slot,edge,index,size_mbit,workload_gcycles,result_mbit"
PARTS = ["transfer_s", "wait_s", "compute_s", "return_s"]


@pytest.fixture
def two() -> OffloadingScenario:
    """Two servers of 10 and 5 Gcycle/s, reached at 100 and 50 Mbit/s."""
    return load_scenario("demo", {"capacity_gcycles_s": [10, 5], "rate_mbit_s": [100, 50]}, OffloadingScenario)


def trace(folder: Path, *rows: str, header: str = HEADER + ",server") -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def oracle(
    rows: list[dict[str, Any]], capacity: list[float], rate: list[float], slot_s: float
) -> tuple[list[Any], list[Any]]:
    """Replay recorded decisions one task at a time; the rows in order of service and the backlogs after each slot."""
    queue, out, backlogs = [0.0] * len(capacity), [], []
    for slot in range(max(row["slot"] for row in rows) + 1):
        for row in sorted((r for r in rows if r["slot"] == slot), key=lambda r: (r["index"], r["edge"])):
            a = row["server"]
            transfer = 0 if a == row["edge"] else row["size_mbit"] / rate[a]
            parts = [transfer, queue[a] / capacity[a], row["workload_gcycles"] / capacity[a]]
            parts.append(row["result_mbit"] / rate[a])
            out.append(row | dict(zip(PARTS, parts, strict=True)) | {"delay_s": sum(parts)})
            queue[a] += row["workload_gcycles"]
        queue = [max(q - f * slot_s, 0) for q, f in zip(queue, capacity, strict=True)]
        backlogs += [(slot, server, q) for server, q in enumerate(queue)]
    return out, backlogs


def test_delays_worked_out_by_hand(tmp_path, two: OffloadingScenario) -> None:
    path = trace(
        tmp_path,
        "2,1,0,5,1,0.5,1",
        "0,0,3,3,6,0.5,1",
        "0,1,0,4,15,1,0",
        "0,0,0,2,4,1.0,0",
    )
    summary = replay(two, path, tmp_path / "out.csv", tmp_path / "backlog.csv")
    out = pd.read_csv(tmp_path / "out.csv", dtype={"result_mbit": str})
    assert list(out.columns) == [*HEADER.split(","), "server", *PARTS, "delay_s"]
    # Order of service; text is left as it was written.
    assert out[["slot", "index", "edge"]].values.tolist() == [[0, 0, 0], [0, 0, 1], [0, 3, 0], [2, 0, 1]]
    assert out["result_mbit"].tolist() == ["1.0", "1", "0.5", "0.5"]
    assert out["server"].tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(out["transfer_s"], [0, 4 / 100, 3 / 50, 0], atol=1e-15)
    # Queue 0 holds 4 when the second task comes. Queue 1 gets 6 in slot 0; 1 is left after it, 0 after slot 1.
    np.testing.assert_allclose(out["wait_s"], [0, 0.4, 0, 0], atol=1e-15)
    np.testing.assert_allclose(out["compute_s"], [0.4, 1.5, 1.2, 0.2])
    np.testing.assert_allclose(out["return_s"], [0.01, 0.01, 0.01, 0.01])
    np.testing.assert_allclose(out["delay_s"], [0.41, 1.95, 1.27, 0.21])
    # After slot 0: 4 + 15 - 10 = 9 and 6 - 5 = 1; slot 1 is empty; after slot 2 nothing is left.
    backlog = pd.read_csv(tmp_path / "backlog.csv")
    assert backlog.values.tolist() == [[0, 0, 9], [0, 1, 1], [1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 0]]
    assert (summary.tasks, summary.slots, summary.decided_by) == (4, 3, "recorded")
    assert summary.mean_delay_s == pytest.approx((0.41 + 1.95 + 1.27 + 0.21) / 4)
    assert summary.max_delay_s == pytest.approx(1.95)
    assert summary.final_backlog_gcycles == 0


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "slot": st.sampled_from([0, 1, 2, 5, 6, 40]),
            "edge": st.integers(0, 2),
            "index": st.sampled_from([0, 1, 2, 3, 10, 1_000_000]),
            "size_mbit": st.floats(0, 10),
            "workload_gcycles": st.floats(0, 100),
            "result_mbit": st.floats(0, 10),
            "server": st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda row: (row["slot"], row["edge"], row["index"]),
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from([0.5, 1.0]))
def test_replay_is_a_plain_loop(tmp_path_factory, rows: list[dict[str, Any]], slot_s: float) -> None:
    folder = tmp_path_factory.mktemp("replay")
    capacity, rate = [10.0, 5.0, 0.3], [100.0, 50.0, 7.0]
    scenario = load_scenario("demo", {"capacity_gcycles_s": capacity, "rate_mbit_s": rate, "slot_s": slot_s})
    pd.DataFrame(rows).to_csv(folder / "trace.csv", index=False)
    replay(scenario, folder / "trace.csv", folder / "out.csv", folder / "backlog.csv")
    served, backlogs = oracle(rows, capacity, rate, slot_s)
    out = pd.read_csv(folder / "out.csv")
    pd.testing.assert_frame_equal(out, pd.DataFrame(served)[list(out.columns)], rtol=1e-9, atol=1e-9, check_dtype=False)
    got = pd.read_csv(folder / "backlog.csv").to_numpy()
    np.testing.assert_allclose(got, np.array(backlogs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["demo", "ladts-paper:n20"])
@pytest.mark.parametrize("rule", ["round-robin", "capacity-weighted", "opt-ts"])
def test_replaying_an_episode_gives_the_numbers_of_the_simulator(tmp_path, name: str, rule: str) -> None:
    scenario = load_scenario(name, {"slots": 8})
    drawn = draw_episodes(scenario, 4, range(1), dtype=torch.float64)
    write_trace(tmp_path / "trace.csv", Tasks(*(values[0, :8] for values in vars(drawn).values())))
    summary = replay(name, tmp_path / "trace.csv", tmp_path / "out.csv", policy=make_rule(rule, seed=5))
    assert summary.decided_by == rule
    assert summary.slots == 8

    simulator = OffloadingWorld(scenario, dtype=torch.float64)
    simulator.reset(seed=4)
    out = pd.read_csv(tmp_path / "out.csv")
    delays = []
    for slot in range(8):
        tasks = simulator.observe().tasks
        server = torch.zeros(tasks.present.shape, dtype=torch.long)
        rows = out[out["slot"] == slot]
        server[0, rows["edge"].tolist(), rows["index"].tolist()] = torch.tensor(rows["server"].tolist())
        served = simulator.decide(server)
        dense = served.dense(served.delays.total_s)
        delays.append(dense[0, rows["edge"].tolist(), rows["index"].tolist()])
    np.testing.assert_allclose(out["delay_s"], torch.cat(delays).numpy(), rtol=1e-12, atol=1e-12)
    assert summary.final_backlog_gcycles == pytest.approx(float(simulator.state.backlog_gcycles.sum()))


def test_an_outcome_is_a_trace_again(tmp_path, two: OffloadingScenario) -> None:
    path = trace(tmp_path, "0,0,0,1,2,3,first", "0,0,1,1,2,3,second", header=HEADER + ",note")
    replay(two, path, tmp_path / "once.csv", policy=make_rule("local"))
    replay(two, tmp_path / "once.csv", tmp_path / "twice.csv", policy=make_rule("uniform"))  # recorded ones count
    assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "twice.csv").read_bytes()
    assert pd.read_csv(tmp_path / "once.csv")["note"].tolist() == ["first", "second"]


def test_redeciding_ignores_what_was_recorded(tmp_path, two: OffloadingScenario) -> None:
    path = trace(tmp_path, "0,0,0,1,2,3,1", "0,1,0,1,2,3,nobody")
    summary = replay(two, path, tmp_path / "out.csv", policy=make_rule("local"), redecide=True)
    assert summary.decided_by == "local"
    assert pd.read_csv(tmp_path / "out.csv")["server"].tolist() == [0, 1]


def test_memory_is_carried_over_slots_and_pauses(tmp_path, two: OffloadingScenario) -> None:
    path = trace(tmp_path, "0,0,0,1,2,3", "0,0,1,1,2,3", "0,0,2,1,2,3", "7,0,0,1,2,3", "9,0,4,1,2,3", header=HEADER)
    replay(two, path, tmp_path / "out.csv", policy=make_rule("round-robin"))
    assert pd.read_csv(tmp_path / "out.csv")["server"].tolist() == [0, 1, 0, 1, 0]


class Network(Policy):
    """Decides by a layer of single-precision weights, as trained policies do, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.seen: list[RouterView] = []
        self.explored: list[bool] = []

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        self.seen.append(view)
        self.explored.append(explore)
        best = self.layer(view.backlog_gcycles).argmax(-1)
        return best[:, None, None].expand(view.tasks.present.shape), memory


def test_policies_see_the_slot_as_it_is(tmp_path, two: OffloadingScenario) -> None:
    rows = ("0,0,5,1,2,3", "0,1,9,1,30,3", "0,0,9,1,2,3", "3,1,0,1,2,3")
    path, policy = trace(tmp_path, *rows, header=HEADER), Network()
    replay(two, path, tmp_path / "out.csv", policy=policy, explore=False)
    first, second = policy.seen
    assert (first.slot, second.slot) == (0, 3)
    # Indices 5 and 9 are the slot's first and second: no width is spent on gaps.
    assert first.tasks.present.tolist() == [[[True, True], [False, True]]]
    assert first.tasks.workload_gcycles.tolist() == [[[2, 2], [0, 30]]]
    assert first.backlog_gcycles.dtype == torch.float32
    # 34 Gcycle on one of the servers, three slots later
    chosen = pd.read_csv(tmp_path / "out.csv")["server"][0]
    expected = [[4.0, 0.0], [0.0, 19.0]][chosen]
    assert second.backlog_gcycles.tolist() == [expected]
    assert policy.explored == [False, False]


def test_long_pauses_cost_nothing(tmp_path, two: OffloadingScenario) -> None:
    path = trace(tmp_path, "0,0,0,1,2,3,0", "4000000000000,0,1000000000000,1,2,3,0", "200000,0,0,1,2,3,0")
    assert replay(two, path, tmp_path / "out.csv").slots == 4_000_000_000_001
    with pytest.raises(InputError, match="ends at slot 4000000000000"):
        replay(two, path, tmp_path / "other.csv", tmp_path / "backlog.csv")
    assert not (tmp_path / "other.csv").exists()
    path = trace(tmp_path, "0,0,0,1,700000,3,0", "140000,0,0,1,2,3,0")  # longer than a chunk
    replay(two, path, tmp_path / "out.csv", tmp_path / "backlog.csv")
    backlog = pd.read_csv(tmp_path / "backlog.csv")
    assert backlog["slot"].tolist() == np.repeat(np.arange(140_001), 2).tolist()
    expected = np.maximum(700_000 - 10.0 * np.arange(1, 140_001), 0)
    assert backlog["backlog_gcycles"][::2].tolist()[:-1] == expected.tolist()


@pytest.mark.parametrize("header", [HEADER, HEADER + ",server"])
def test_a_trace_without_tasks_gives_headers(tmp_path, two: OffloadingScenario, header: str) -> None:
    summary = replay(two, trace(tmp_path, header=header), tmp_path / "out.csv", tmp_path / "backlog.csv")
    assert (tmp_path / "out.csv").read_text() == f"{HEADER},server,{','.join(PARTS)},delay_s\n"
    assert (tmp_path / "backlog.csv").read_text() == "slot,server,backlog_gcycles\n"
    assert (summary.tasks, summary.slots, summary.mean_delay_s) == (0, 0, 0.0)


def test_somebody_must_decide(tmp_path, two: OffloadingScenario) -> None:
    with pytest.raises(InputError, match="no column 'server'; give --policy"):
        replay(two, trace(tmp_path, "0,0,0,1,2,3", header=HEADER), tmp_path / "out.csv")
    with pytest.raises(InputError, match="made anew; give --policy"):
        replay(two, trace(tmp_path, "0,0,0,1,2,3,1"), tmp_path / "out.csv", redecide=True)


@pytest.mark.parametrize(
    ("out", "backlog", "complaint"),
    [
        ("no/folder/out.csv", None, "no/folder/out.csv' can not be written"),
        ("out.csv", "no/folder/backlog.csv", "no/folder/backlog.csv' can not be written"),
        (".", None, "can not be written"),
        ("trace.csv", None, "is both the trace and the output"),
        ("out.csv", "trace.csv", "is both the trace and the backlog output"),
        ("out.csv", "out.csv", "is both the output and the backlog output"),
    ],
)
def test_nothing_is_written_where_it_must_not_be(
    tmp_path, two: OffloadingScenario, out: str, backlog: Any, complaint
) -> None:
    path = trace(tmp_path, "0,0,0,1,2,3,1")
    content = path.read_bytes()
    never = Network()
    with pytest.raises(InputError, match=complaint):
        replay(two, path, tmp_path / out, backlog and tmp_path / backlog, policy=never, redecide=True)
    assert never.seen == []  # noticed before the work
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content


def test_a_failure_half_way_leaves_nothing(tmp_path, two: OffloadingScenario) -> None:
    class Stumbling(Policy):
        def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
            if view.slot:
                raise RuntimeError("stumbled")
            return torch.zeros_like(view.tasks.present, dtype=torch.long), memory

    path = trace(tmp_path, "0,0,0,1,2,3", "1,0,0,1,2,3", header=HEADER)
    with pytest.raises(RuntimeError, match="stumbled"):
        replay(two, path, tmp_path / "out.csv", tmp_path / "backlog.csv", policy=Stumbling())
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_input_is_refused(tmp_path, two: OffloadingScenario) -> None:
    with pytest.raises(InputError, match="'edge' is '2'"):
        replay(two, trace(tmp_path, "0,2,0,1,2,3,0"), tmp_path / "out.csv")
    with pytest.raises(InputError, match=r"Did you mean 'demo'\?"):
        replay("dmeo", trace(tmp_path, "0,1,0,1,2,3,0"), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
