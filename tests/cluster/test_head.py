# SPDX-License-Identifier: Apache-2.0
"""The head dies under a live service and comes back; its tables are in Redis."""

import json

import pytest
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.platform.cli import app
from edgegen.platform.cluster.chaos_head import AFTER, AWAY, BEFORE, Answer, HeadOutcome, HeadPlan, restart_head
from edgegen.platform.cluster.with_redis import find_redis

FINE = {phase: {"answered": 5} for phase in (BEFORE, AWAY, AFTER)}


def outcome(**changes):
    fields = {"done": "killed", "counts": FINE, "across": 2, "slowest_s": 1.5, "lost": (), "unhealthy": ()}
    return HeadOutcome(**{**fields, "application": "RUNNING", "seconds": 30.0, **changes})


@pytest.mark.parametrize(
    ("came_of_it", "came_through", "why"),
    [
        (outcome(), True, "15 requests answered (5 before, 5 while the head was away, 5 after it was back), 0 refused"),
        (outcome(counts={**FINE, AWAY: {"answered": 4, "refused": 1}}), True, "14 requests answered"),
        (outcome(counts={**FINE, AWAY: {"refused": 5}}), False, "no request was answered that was sent while the head"),
        (outcome(lost=("500 Internal Server Error",)), False, "1 requests were lost, the first with 500 Internal"),
        (outcome(unhealthy=("edge-b",)), False, "not healthy in the end: edge-b"),
        (outcome(application="DEPLOY_FAILED"), False, "DEPLOY_FAILED"),
    ],
)
def test_verdicts(came_of_it, came_through, why):
    result, reason = came_of_it.verdict()
    assert result is came_through
    assert why in reason


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (200, "", "answered"),
        (429, '{"error":{"message":"All queues are full."}}', "refused"),
        (503, "Service Unavailable", "lost"),  # not in the gateway's words: it never saw the request
        (500, "Internal Server Error", "lost"),
        (0, "ReadError('')", "lost"),
    ],
)
def test_what_counts_as_lost(status, text, kind):
    assert Answer(AWAY, AWAY, status, text, 1.0).kind == kind


def test_without_redis_it_is_refused_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr("edgegen.platform.cluster.with_redis.find_redis", lambda: None)
    result = CliRunner().invoke(app, ["chaos", "head", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr == (
        "The fault 'head' needs the program 'redis-server' (Debian, Ubuntu: apt-get install redis-server).\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.e2e
@pytest.mark.soak
@pytest.mark.skipif(find_redis() is None, reason="there is no redis-server")
def test_no_request_is_lost_while_the_head_is_away(tmp_path):
    try:
        came_of_it = restart_head(HeadPlan(tmp_path, requests=5, clients=2, steps=4))
    except InputError as error:  # Ray gives a node 30 s to start, and no setting changes that
        if "did not start" not in str(error):
            raise
        pytest.skip(f"this machine is too busy to start a Ray node: {error}")
    came_through, why = came_of_it.verdict()
    assert came_through, why
    assert came_of_it.across >= 1  # some were under way when it died
    assert "gcs_server, raylet" in came_of_it.done
    assert all(counts["answered"] >= 5 for counts in came_of_it.counts.values())
    json.dumps(came_of_it.to_json())
