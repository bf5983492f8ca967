# SPDX-License-Identifier: Apache-2.0
"""Any path can stand in a database URL, and is read back from it."""

import sqlite3
from pathlib import Path
from urllib.parse import unquote

import pytest
import sqlalchemy
from sqlalchemy.engine import make_url

from edgegen.algorithms import store_urls
from edgegen.algorithms.core.registered import how_to_look, open_client, tracking_uri
from edgegen.algorithms.store_urls import database_file, database_url
from edgegen.envs.core.errors import InputError
from edgegen.platform.records.tracking import Store

NAMES = ["a b", "a%20b", "a%2520b", "100%", "a?b", "?mode=ro", "a#b", "a+b", "a&b", "a=b;c", "ü日", "a'b", 'a"b']
NAMES += ["a@b", "a:b", "a\\b", "a$b", "[a]*", "a\nb"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_survives_the_way_into_a_url_and_back(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    file = folder / "mlflow.db"
    url = database_url(file)
    assert database_file(url) == file
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("create table t (x)")
    engine.dispose()
    with sqlite3.connect(file) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("t",)]
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a%20b", "a?b#c&d'e"])
def test_every_folder_has_its_own_records(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / unquote(name)).mkdir(exist_ok=True)
    (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    store = Store(Path("runs"))
    run = store.create_run("n", {}, {})
    (tmp_path / "file.txt").write_text("text")
    store.client.log_artifact(run, str(tmp_path / "file.txt"))
    (tmp_path / "file.txt").unlink()
    assert (tmp_path / name / "runs" / "mlflow.db").is_file()
    assert (Path("runs") / "mlartifacts" / run / "artifacts" / "file.txt").read_text() == "text"
    assert sorted(tmp_path.iterdir()) == before  # MLflow makes folders of names that it did not decode
    assert open_client(tracking_uri()).get_run(run).info.run_name == "n"


def test_a_plain_path_stays_plain(tmp_path):
    assert database_url(tmp_path / "mlflow.db") == f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///runs/mlflow.db", "runs/mlflow.db"),
        ("sqlite:////data/a%20b/mlflow.db?timeout=5", "/data/a b/mlflow.db"),
        ("sqlite+pysqlite:////data/a%3Fb.db", "/data/a?b.db"),
    ],
)
def test_urls_that_people_write_are_read(url, file):
    assert database_file(url) == Path(file)


@pytest.mark.parametrize(
    "url",
    [
        "http://host:5000",
        "postgresql://me@host/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:/data/x.db?mode=ro&uri=true",
        "sqlite",
        "runs",
        "file:///data/runs",
    ],
)
def test_what_is_no_file_of_sqlite_has_none(url):
    assert database_file(url) is None


def test_a_path_that_has_no_url_is_one_sentence(tmp_path, monkeypatch):
    # SQLAlchemy before 2.1 does not decode the path of a URL.
    monkeypatch.setattr(store_urls, "_path_in", lambda url: url.partition(":///")[2].partition("?")[0])
    with pytest.raises(InputError, match="has no URL for a path"):
        database_url(tmp_path / "a?b" / "mlflow.db")


def test_the_line_to_copy_is_as_a_shell_reads_it(tmp_path):
    import shlex

    url = database_url(tmp_path / "my 'runs' & more" / "mlflow.db")
    assert shlex.split(how_to_look(url)) == ["mlflow", "ui", "--backend-store-uri", url]
    assert make_url(url).database == str(tmp_path.resolve() / "my 'runs' & more" / "mlflow.db")
