# SPDX-License-Identifier: Apache-2.0
"""Once around: what a service recorded becomes a world, a policy is tuned in it, and takes charge of that service."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from edgegen.envs.core.records import read_records
from edgegen.platform.cli import app
from tests.serve.record.emulated import requests_of, serve_requests, service, service_fields


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("order", ["policy", "canary"])
def test_record_fit_tune_and_swap(order: str, tmp_path: Path) -> None:
    serve_requests(service(tmp_path, policy="earliest"), requests_of(300, 1.2, seed=0))
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(service_fields(tmp_path, policy="earliest"), sort_keys=False))
    folder, world, tuned = (str(tmp_path / name) for name in ("recordings", "world.yaml", "tuned"))
    said = run("trace", "fit", folder, "--config", str(tmp_path / "service.yaml"), "--out", world, "--check", "1")
    assert "Served, and simulated in this world" in said
    run("tune", "price-greedy", "-s", world, "--budget", "3", "-n", "1", "--out", tuned, "--no-tracking")
    (tmp_path / "then").mkdir()
    then = service(tmp_path / "then", policy="earliest", canary_share=0.5)
    serve_requests(then, requests_of(60, 1.2, seed=1), orders=[{order: tuned}])
    before, after = (read_records(Path(place)).to_pylist() for place in (folder, tmp_path / "then" / "recordings"))
    assert {row["policy"] for row in before} == {"earliest"}
    assert (len(before), len(after)) == (300, 60)
    chosen = {(row["policy"], row["canary"]) for row in after}
    assert chosen == ({(tuned, False)} if order == "policy" else {("earliest", False), (tuned, True)})
    assert {row["outcome"] for row in after} <= {"served", "late"}
