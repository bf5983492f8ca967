# SPDX-License-Identifier: Apache-2.0
"""What the guide says of backups, done: a registry on PostgreSQL is dumped, lost, restored, and holds what it held."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from urllib.parse import urlsplit

import pytest

from tests.docs.doc_pages import SHELLS, blocks, commands
from tests.platform.records.servers import postgres, postgres_missing, postgres_programs

pytestmark = pytest.mark.e2e

PAGE = "docs/day-2.md"
IN_THE_POD = re.compile(r"kubectl -n edgegen exec (?:-i )?edgegen-postgres-0 -- (.*)", re.DOTALL)


def written_commands():
    """What the page has done in the pod of the database, in order."""
    written = [command.text for block in blocks(PAGE) if block.language in SHELLS for command in commands(block)]
    return [match[1] for text in written if (match := IN_THE_POD.fullmatch(text))]


@pytest.fixture
def database(tmp_path):
    """A database with the role of the manifests; what is needed to run programs beside it, and its address."""
    if reason := postgres_missing():
        pytest.skip(reason)
    with postgres() as server:
        port = urlsplit(server.uri).port
        environment = {
            **os.environ,
            "PATH": f"{postgres_programs()}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
        }

        def run(line, **more):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line],
                cwd=tmp_path, env={**environment, **more}, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("psql -U edgegen -d postgres -c 'CREATE ROLE mlflow SUPERUSER LOGIN' && createdb -U mlflow mlflow")
        yield run, f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"


def disconnect(client):
    """End the connections of a client; a server is stopped for that, since a database in use can not be dropped."""
    client._tracking_client.store.engine.dispose()
    client._get_registry_client().store.engine.dispose()


def held(client, run_id):
    """What must not be lost."""
    steps = [(entry.step, entry.value) for entry in client.get_metric_history(run_id, "delay")]
    model = client.get_registered_model("scheduler")
    return (
        steps,
        dict(model.aliases),
        client.get_model_version("scheduler", "1").tags,
        client.get_run(run_id).data.params,
    )


def test_what_was_dumped_comes_back(database, manifests, tmp_path):
    from mlflow.tracking import MlflowClient

    run, uri = database
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "preset", "set")
    for step in range(3):
        client.log_metric(run_id, "delay", 4.0 - step, step=step)
    client.create_registered_model("scheduler")
    client.create_model_version("scheduler", f"{tmp_path}/policy", run_id, tags={"edgegen.image": "edgegen:1"})
    client.set_registered_model_alias("scheduler", "champion", "1")
    before = held(client, run_id)
    assert before[0] == [(0, 4.0), (1, 3.0), (2, 2.0)]

    # Every night, by the CronJob's own script.
    spec = manifests.pick("prod", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    (tmp_path / "backups").mkdir()
    script = spec["command"][-1].replace("/backups", str(tmp_path / "backups"))
    names = {one["name"]: one["value"] for one in spec["env"] if "value" in one and one["name"] != "PGHOST"}
    run(script, **names)
    (nightly,) = (tmp_path / "backups").iterdir()
    assert re.fullmatch(r"mlflow-\d{8}T\d{6}Z\.dump", nightly.name)

    # By hand, as the page says.
    dump, empty, restore = written_commands()
    assert shlex.split(dump)[0] == "pg_dump"
    assert shlex.split(restore)[0] == "pg_restore"
    run(dump)
    for source in (tmp_path / "mlflow.dump", nightly):
        client.delete_registered_model_alias("scheduler", "champion")
        client.log_metric(run_id, "delay", 99.0, step=9)
        assert held(client, run_id) != before
        disconnect(client)
        run(empty)
        if source != tmp_path / "mlflow.dump":
            (tmp_path / "mlflow.dump").write_bytes(source.read_bytes())
        run(restore)
        assert held(client, run_id) == before
    disconnect(client)  # or PostgreSQL would wait for it before it ends
