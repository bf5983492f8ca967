# SPDX-License-Identifier: Apache-2.0
"""What a gateway records: a row for every request, whatever becomes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet
import pytest

from edgegen.envs.core.records import COLUMNS, read_records
from edgegen.envs.fleet.records import read_trace
from edgegen.serve.control.jobs import EdgeFullError, GenerationError
from tests.serve.fake_edges import URL, held, serve


def rows_of(folder):
    return read_records(folder).to_pylist()


def ask(client, **fields):
    return client.post(URL, json={"prompt": "a cat", **fields})


def test_every_column_of_a_request_that_was_served(make_config, tmp_path):
    async def scenario(client, edges, gateway):
        headers = {"x-request-id": "mine-1", "authorization": "Bearer secret"}
        body = {"prompt": "a cat", "n": 2, "num_inference_steps": 7, "deadline_s": 9, "weight": 2, "priority": "high"}
        answer = await client.post(URL, json={**body, "edge": "edge-b"}, headers=headers)
        said = answer.json()["edgegen"]
        (recent,) = gateway.recorder.recent()
        assert recent["request_id"] == "mine-1"
        assert recent["edge"] == said["server"]

    serve(scenario, make_config(record={"folder": str(tmp_path / "r")}, policy="local"))
    (row,) = rows_of(tmp_path / "r")
    assert tuple(row) == COLUMNS
    times = {name: row.pop(name) for name in ("arrival_s", "decision_s", "total_s", "account")}
    assert times["total_s"] >= times["decision_s"] > 0
    assert len(times["account"]) == 16
    assert "secret" not in (tmp_path / "r").glob("*.parquet").__next__().read_bytes().decode("latin1")
    assert row == {
        "request_id": "mine-1",
        "model": "tiny",
        "home": "edge-b",
        "edge": "edge-b",
        "pictures": 2,
        "steps": 7,
        "least_steps": None,
        "steps_done": 7,
        "width": 16,
        "height": 16,
        "deadline_s": 9.0,
        "weight": 2.0,
        "priority": "high",
        "work_gcycles": pytest.approx(1.4),
        "size_mbit": pytest.approx(5 * 8e-6),
        "result_mbit": pytest.approx(2 * 16 * 16 * 24e-6),
        "queue_s": 0.1,
        "load_s": 0.0,
        "generation_s": 0.2,
        "load_source": "resident",
        "outcome": "served",
        "reason": None,
        "policy": "local",
        "canary": False,
        "fallback": None,
        "prompt": None,
    }


def test_what_becomes_of_requests(make_config, tmp_path):
    async def scenario(client, edges, gateway):
        for failure in (GenerationError("out of memory"), EdgeFullError("full")):
            for edge in edges.values():
                edge.failure = failure
            await ask(client)
        for edge in edges.values():
            edge.failure = None
        await asyncio.sleep(0.2)
        assert (await ask(client, deadline_s=0.01, num_inference_steps=50)).status_code == 400
        (gone,) = await held(client, edges.values())
        gone.cancel()
        await asyncio.sleep(0.05)
        same = {"idempotency-key": "once"}
        twice = [client.post(URL, json={"prompt": "x", "seed": 1}, headers=same) for _ in range(2)]
        under_way = [asyncio.ensure_future(one) for one in twice]
        await asyncio.sleep(0.05)
        for edge in edges.values():
            edge.hold.set()
        await asyncio.gather(*under_way)
        other = await client.post(URL, json={"prompt": "y"}, headers=same)
        assert other.status_code in (200, 422)
        assert (await client.post(URL, json={"prompt": ""})).status_code == 400

    serve(scenario, make_config(record={"folder": str(tmp_path)}, report_period_s=0.05, max_retries=1))
    found = [(row["outcome"], row["reason"]) for row in rows_of(tmp_path)]
    assert found[:3] == [
        ("failed", "generation_failed"),
        ("refused", "queues_full"),
        ("refused", "deadline_too_short"),
    ]
    assert found[3] == ("gone", None)
    assert found[4] == ("served", None)  # twice the same request is one
    assert len(found) == 6


def test_late_answers_and_arrivals_by_the_clock_of_the_service(make_config, tmp_path, in_virtual_time):
    async def scenario(service):
        asked = []
        for number in range(12):
            await service.until(number)
            asked.append(service.ask(num_inference_steps=50, n=2, deadline_s=100, seed=number))
        await asyncio.gather(*asked)
        for server in service.edges.values():
            server.capacity /= 100  # slower than anybody knows
        await service.ask(num_inference_steps=20, deadline_s=2)

    in_virtual_time(scenario, make_config(record={"folder": str(tmp_path)}, report_period_s=60, policy="local"))
    rows = rows_of(tmp_path)
    trace = read_trace(tmp_path)
    assert trace.arrival_s[:12] == pytest.approx(range(12))
    assert trace.names == ("tiny",)
    assert trace.steps is not None
    assert set(trace.steps) == {50.0, 20.0}
    assert [row["outcome"] for row in rows] == ["served"] * 12 + ["late"]
    for row in rows:
        parts = row["queue_s"] + row["load_s"] + row["generation_s"]
        assert parts <= row["total_s"] + 0.06


@pytest.mark.parametrize("kept", ["none", "hash", "text"])
def test_prompts_are_left_out_hashed_or_kept(kept, make_config, tmp_path):
    folder = tmp_path / "r"

    async def scenario(client, edges, gateway):
        for prompt in ("a cat", "a dog", "a cat"):
            await ask(client, prompt=prompt)

    serve(scenario, make_config(record={"folder": str(folder), "prompts": kept}))
    prompts = [row["prompt"] for row in rows_of(folder)]
    if kept == "hash":
        assert prompts[0] == prompts[2] != prompts[1]
        assert all(len(prompt) == 32 for prompt in prompts)
        assert (folder / "prompt-key").stat().st_mode & 0o077 == 0
        serve(scenario, make_config(record={"folder": str(folder), "prompts": kept}))
        assert len({row["prompt"] for row in rows_of(folder)}) == 2
        serve(scenario, make_config(record={"folder": str(tmp_path / "other"), "prompts": kept}))
        assert prompts[0] not in {row["prompt"] for row in rows_of(tmp_path / "other")}
    else:
        assert prompts == ([None] * 3 if kept == "none" else ["a cat", "a dog", "a cat"])


def test_nothing_is_written_without_a_folder_and_the_latest_are_in_memory(make_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def scenario(client, edges, gateway):
        for number in range(5):
            await ask(client, seed=number, num_inference_steps=number + 1)
        assert [row["steps"] for row in gateway.recorder.recent(3)] == [5, 4, 3]
        assert (await client.get("/healthz")).json()["record"] is None

    serve(scenario, make_config())
    assert not list(tmp_path.iterdir())


def test_two_gateways_write_beside_one_another(make_config, tmp_path):
    async def other(client, edges, gateway):
        await asyncio.gather(*(ask(client, seed=number) for number in range(20)))

    async def scenario(client, edges, gateway):
        await ask(client)
        while not gateway.recorder.written:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(serve, other, config)
        assert len(list(tmp_path.glob("*.jsonl"))) == 1
        assert len(rows_of(tmp_path)) == 21  # the journal of the one is read, and the file of the other
        assert (await client.get("/healthz")).json()["record"]["rows"] == 1
        await ask(client)

    config = make_config(record={"folder": str(tmp_path)})
    serve(scenario, config)
    assert len(rows_of(tmp_path)) == 22
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".parquet"] * 2


def test_requests_are_answered_though_nothing_can_be_written(make_config, tmp_path):
    (tmp_path / "place").mkdir()
    folder = tmp_path / "place" / "r"

    async def scenario(client, edges, gateway):
        Path(tmp_path / "place").rmdir()
        Path(tmp_path / "place").write_text("a file stands there")
        assert (await ask(client)).status_code == 200
        while gateway.recorder.trouble is None:
            await asyncio.sleep(0.05)
        state = (await client.get("/healthz")).json()["record"]
        assert state["rows"] == 0
        assert "can not be recorded: not a directory" in state["trouble"] or "file exists" in state["trouble"]
        Path(tmp_path / "place").unlink()  # then they are written after all
        assert (await ask(client)).status_code == 200

    serve(scenario, make_config(record={"folder": str(folder)}))
    assert len(rows_of(folder)) == 2
    assert pyarrow.parquet.read_metadata(next(folder.glob("*.parquet"))).num_rows == 2
