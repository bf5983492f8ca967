# SPDX-License-Identifier: Apache-2.0
"""The file of keys: only hashes are kept, revoking works without a restart, and commands write it."""

from __future__ import annotations

import hashlib
import json
import stat

import pytest
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.platform.cli import app
from edgegen.serve.http.key_file import KEY, read_keys
from edgegen.serve.http.keys import LOOK_S, KeyRing, UnknownKeyError
from tests.serve.fake_edges import URL, serve
from tests.serve.http.keyed import BODY, Keys, at_once, bearer


@pytest.fixture
def key_file(tmp_path):
    return Keys(tmp_path / "keys.json")


def test_a_key_is_random_and_only_its_hash_is_kept(key_file):
    text = key_file.add("studio")
    other = key_file.add("lab")
    assert KEY.fullmatch(text)
    assert text != other
    (studio, _) = read_keys(key_file.path).keys
    assert studio.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert text.partition("-")[2].partition("-")[2] not in key_file.path.read_text()
    with pytest.raises(InputError, match="name 'studio' already"):
        key_file.add("studio")


def test_revoking_works_without_a_restart_and_a_broken_file_changes_nothing(make_config, key_file, caplog):
    studio, lab = key_file.add("studio"), key_file.add("lab")

    async def scenario(client, edges, gateway):
        async def status(text):
            return (await client.post(URL, json=BODY, headers=bearer(text))).status_code

        at_once(gateway)
        assert [await status(studio), await status(lab)] == [200, 200]
        key_file.revoke("lab")
        assert [await status(studio), await status(lab)] == [200, 401]
        for broken in ("{", '{"format": "edgegen-keys-1", "keys": [{"name": "x"}]}', '{"format": "other"}'):
            key_file.write(broken)
            assert [await status(studio), await status(lab)] == [200, 401]
            health = (await client.get("/healthz", headers=bearer(studio))).json()
            assert health["status"] == "degraded"
            assert str(key_file.path) in health["keys"]["error"]
        key_file.path.unlink()
        assert [await status(studio), await status(lab)] == [200, 401]
        late = key_file.add("late")
        assert [await status(studio), await status(late)] == [200, 200]
        assert (await client.get("/healthz", headers=bearer(studio))).json()["status"] == "ok"

    serve(scenario, make_config(keys=str(key_file.path)))
    assert caplog.text.count("the API keys from before still count") == 4


def test_the_file_is_looked_at_once_a_second(key_file):
    text, now = key_file.add("studio"), [0.0]
    ring = KeyRing(key_file.path, clock=lambda: now[0])
    key_file.revoke("studio")
    now[0] = LOOK_S - 0.01
    assert ring.find(f"Bearer {text}").name == "studio"
    now[0] = LOOK_S
    with pytest.raises(UnknownKeyError):
        ring.find(f"Bearer {text}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Invalid JSON"),
        (
            '{"format": "edgegen-keys-1", "keys": [{"name": "a b", "id": "00000000", "sha256": "SECRET"}]}',
            "keys.0.name",
        ),
        ('{"format": "edgegen-keys-1", "keys": [{"name": "a", "id": "00000000", "sha256": "SECRET"}]}', "sha256"),
        ('{"format": "edgegen-keys-1", "keys": [], "more": "SECRET"}', "more"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_without_its_content(make_config, tmp_path, text, words):
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        KeyRing(path)
    assert words in str(refused.value)
    assert "SECRET" not in str(refused.value)
    with pytest.raises(InputError, match="no such file"):
        KeyRing(tmp_path / "none.json")


def test_commands_make_list_and_revoke_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, ["keys", *arguments])
        return result.exit_code, result.stdout, result.stderr

    code, shown, notes = run("add", "studio", "--requests-per-minute", "60", "--model", "tiny", "--days", "1")
    assert code == 0, notes
    assert KEY.fullmatch(shown.strip())
    assert "can not be shown again" in notes
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    ring = KeyRing("keys.json")
    assert ring.find(f"Bearer {shown.strip()}").models == ("tiny",)
    (tmp_path / "keys.json").chmod(0o640)  # what its owner has allowed stays
    assert run("add", "lab", "--weight", "2")[0] == 0
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o640
    code, shown, _ = run("list", "--json", "list.json")
    assert code == 0
    assert "studio" in shown
    listed = json.loads((tmp_path / "list.json").read_text())
    assert [key["name"] for key in listed["keys"]] == ["studio", "lab"]
    assert "sha256" not in (tmp_path / "list.json").read_text()
    assert run("revoke", "studio")[0] == 0
    assert [key.name for key in read_keys("keys.json").keys] == ["lab"]
    for arguments, words in (
        (("revoke", "labb"), "Did you mean 'lab'"),
        (("add", "lab"), "already"),
        (("add", "a b"), "name"),
        (("add", "x", "--days", "0"), "--days"),
        (("add", "x", "--weight", "-1"), "weight"),
        (("add", "x", "--requests-per-minute", "0"), "requests_per_minute"),
        (("add", "x", "--file", "/dev/null"), "no file"),
        (("list", "--file", "none.json"), "no key file"),
    ):
        code, _, error = run(*arguments)
        assert (code, error.count("\n")) == (2, 1), error
        assert words in error
