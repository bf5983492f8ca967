# SPDX-License-Identifier: Apache-2.0
"""Recorded traffic: what was counted is what arrives, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.recordings import Recording, read_recording
from tests.envs.offloading.traces import write_trace


def written(folder: Path, text: str) -> str:
    path = folder / "counts.csv"
    path.write_text(text)
    return str(path)


def test_counts_by_hand(tmp_path) -> None:
    counted = read_recording(written(tmp_path, "tasks,slot,edge\n3,0,1\n1,2,0\n2,2,0\n"))
    assert counted.counts == ((0, 3), (0, 0), (3, 0))
    rows = read_recording(written(tmp_path, "slot,edge,prompt\n0,1,cat\n0,1,dog\n1,0,hat\n"))
    assert rows.counts == ((0, 2), (1, 0))


def test_a_trace_is_a_recording(tmp_path) -> None:
    scenario = load_scenario("demo")
    tasks = draw_episodes(scenario, 3, range(1))
    write_trace(tmp_path / "trace.csv", type(tasks)(*(values[0] for values in vars(tasks).values())))
    counts = np.array(read_recording(str(tmp_path / "trace.csv")).counts)
    np.testing.assert_array_equal(counts, tasks.present[0].sum(-1).numpy())


def test_factors_have_a_mean_of_one_whatever_the_number_of_servers() -> None:
    recording = Recording(counts=((0, 2, 1), (4, 2, 0)))
    np.testing.assert_allclose(recording.factors(3), np.array([[0, 2, 1], [4, 2, 0]]) / 1.5)
    np.testing.assert_allclose(recording.factors(2), np.array([[0, 2], [4, 2]]) / 2)
    five = recording.factors(5)
    np.testing.assert_allclose(five[:, 3:], five[:, :2])  # edges are used again from the first on
    assert five.mean() == pytest.approx(1)


def test_windows_begin_anywhere_and_go_round() -> None:
    recording = Recording(counts=tuple((n,) for n in range(1, 6)))
    drawn = recording.draw([np.random.default_rng(n) for n in range(80)], 7, 1)[..., 0] * 3
    assert set(drawn[:, 0].round().astype(int)) == {1, 2, 3, 4, 5}
    np.testing.assert_allclose(drawn[:, 1:], np.where(drawn[:, :-1] == 5, 1, drawn[:, :-1] + 1))


def test_the_world_replays_the_counts_in_their_proportion(tmp_path) -> None:
    path = written(tmp_path, "slot,edge,tasks\n0,0,1\n0,1,3\n1,1,4\n")
    servers, tasks = {"server_sets.servers": 2, "slots": 3}, {"tasks_per_slot": {"low": 2, "high": 2}}
    world = load_scenario("stable", {**servers, **tasks, "traffic.recorded": path})
    count = draw_episodes(world, 5, range(40)).present.sum(-1).numpy()  # mean 2 a server and slot: as recorded
    assert {tuple(map(tuple, each.tolist())) for each in count} == {
        ((1, 3), (0, 4), (1, 3), (0, 4)),
        ((0, 4), (1, 3), (0, 4), (1, 3)),
    }
    assert world.max_tasks == 4
    assert world.load == pytest.approx(0.8)


@pytest.mark.parametrize("name", ["recorded", "recorded:b5", "recorded:b20"])
def test_the_shipped_world_has_the_load_that_it_says(name) -> None:
    world = load_scenario(name)
    work = draw_episodes(world, 1, range(300))
    arrived = (work.workload_gcycles * work.present).sum((2, 3)).double().mean()
    assert float(arrived) == pytest.approx(world.work_gcycles_s, rel=0.05)
    assert world.load == pytest.approx(0.75)


def test_a_saved_world_stands_alone(tmp_path) -> None:
    path = written(tmp_path, "slot,edge\n0,0\n1,1\n")
    (tmp_path / "mine.yaml").write_text("extends: stable:b5\ntraffic: {recorded: counts.csv}\n")
    world = load_scenario(tmp_path / "mine.yaml")
    Path(path).unlink()
    assert world.model_dump()["traffic"]["recorded"]["counts"] == ["1 0", "0 1"]
    assert build_scenario(world.model_dump(mode="json")) == world


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; it needs the header slot,edge"),
        ("slot,edgy\n0,0\n", "has no column 'edge'; it needs slot, edge, and has slot, edgy. Did you mean 'edgy'?"),
        ("slot,edge\n", "has no tasks, but needs at least one"),
        ("slot,edge,tasks\n0,0,0\n", "has no tasks, but needs at least one"),
        ("slot,edge\n0,-1\n", "row 1: the column 'edge' is '-1', but must be a whole number from 0 to 9999"),
        ("slot,edge\n0.5,1\n", "row 1: the column 'slot' is '0.5', but must be a whole number from 0 to 99999"),
        ("slot,edge,tasks\n0,1,many\n", "row 1: the column 'tasks' is 'many'"),
        ("slot,edge,tasks\n0,1,1000000001\n", "'1000000001', but must be a whole number from 0 to 1000000000"),
        ("slot;edge\n0;1\n", "its cells are separated by semicolons, but must be separated by commas"),
        ("slot,edge\n99999,999\n", "has 100000 slots and 1000 edges, but their product must be at most 1000000"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, text, said) -> None:
    with pytest.raises(InputError) as refused:
        read_recording(written(tmp_path, text))
    assert said in str(refused.value)


def test_a_missing_recording_is_named_with_what_there_is(tmp_path) -> None:
    with pytest.raises(InputError, match=r"nknown recording 'city-departure'.*Did you mean 'city-departures'"):
        load_scenario("recorded", {"traffic.recorded": "city-departure"})
    written(tmp_path, "slot,edge\n0,0\n")
    with pytest.raises(InputError, match=r"no recording file '.*/count\.csv'\. Did you mean '.*/counts\.csv'\?"):
        load_scenario("recorded", {"traffic.recorded": str(tmp_path / "count.csv")})
    with pytest.raises(InputError, match=r"'traffic\.recorded' is 7, but must be the name of a recording"):
        load_scenario("recorded", {"traffic.recorded": 7})


def test_servers_at_edges_without_tasks_are_refused(tmp_path) -> None:
    path = written(tmp_path, "slot,edge\n0,7\n")
    with pytest.raises(InputError, match="has no tasks at its first 5 edges"):
        load_scenario("recorded:b5", {"traffic.recorded": path})


def test_a_peak_far_above_the_mean_is_refused_before_anything_is_computed(tmp_path) -> None:
    path = written(tmp_path, "slot,edge\n0,0\n99999,0\n")
    said = r"the peak of the recording '.*counts\.csv', 1 in a slot of an edge, is 50000 times the mean .* at most 1000"
    with pytest.raises(InputError, match=said):
        load_scenario("demo", {"traffic": {"recorded": path}})
    path = written(tmp_path, "slot,edge\n0,0\n999,0\n")
    assert load_scenario("demo", {"traffic": {"recorded": path}}).max_tasks == 15 * 500


def test_together_factors_are_bounded_too(tmp_path) -> None:
    path = written(tmp_path, "slot,edge\n0,0\n999,0\n")
    hot = {"servers": 1, "factor": 100}
    with pytest.raises(InputError, match=r"tasks_per_slot.high is 10000 and traffic has up to 500 times as many, but"):
        load_scenario("demo", {"traffic": {"recorded": path}, "tasks_per_slot.high": 10_000})
    with pytest.raises(
        InputError, match=r"traffic has up to 2403\.85 times as many, but a server may get at most 100000"
    ):
        load_scenario("demo", {"traffic": {"recorded": path, "hot_spots": hot}, "tasks_per_slot.high": 50})


def test_a_long_recording_for_many_servers_is_refused(tmp_path) -> None:
    path = written(tmp_path, "slot,edge,tasks\n0,0,1000\n99999,0,0\n")
    with pytest.raises(
        InputError, match=r"has 100000 slots, for 1000 servers, but the product may be at most 10000000"
    ):
        load_scenario("stable", {"traffic": {"recorded": path}, "server_sets.servers": 1000})


def test_the_longest_silence_goes_round_and_is_that_of_the_edges_in_use() -> None:
    recording = Recording(counts=((0, 1), (0, 0), (3, 0), (0, 0), (0, 1)))
    assert [recording.longest_silence(servers) for servers in (1, 2, 3)] == [4, 1, 1]
    assert Recording(counts=((2,), (1,))).longest_silence(4) == 0


def test_the_remedy_for_an_episode_without_tasks_fits_its_traffic(tmp_path) -> None:
    path = written(tmp_path, "slot,edge\n" + "".join(f"{slot},0\n" for slot in range(0, 999, 20)))
    thin = load_scenario("demo", {"slots": 3, "traffic": {"recorded": path}})
    assert "windows of 3 slots of the recording" in thin.remedy_without_tasks
    assert "up to 19 slots in a row" in thin.remedy_without_tasks
    longer = load_scenario("demo", {"slots": 20, "traffic": {"recorded": path}})
    for other in (longer, load_scenario("demo")):
        assert other.remedy_without_tasks == "give the scenario more slots or raise tasks_per_slot"


@pytest.mark.parametrize(
    "counts", [["1 1_0"], ["1 -1"], ["1 2.5"], [[True, 1]], [["1", 1]], ["9" * 30], [[2**60]], "3"]
)
def test_counts_that_are_no_counts_are_refused(counts) -> None:
    with pytest.raises(InputError, match=r"the field 'traffic\.recorded\.counts"):
        load_scenario("demo", {"traffic": {"recorded": {"counts": counts}}})
