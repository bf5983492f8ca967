# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import as_path, beside, replacing

LONG = "x" * 300


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "is an empty text"),
        ("a\0b", "holds no NUL character"),
        ("~nobody-of-this-name", "there is no home folder '~nobody-of-this-name'"),
        (LONG, "file name too long"),
        (f"not/there/{LONG}/yet", "file name too long"),
        ("ü" * 200, "file name too long"),  # 400 bytes
        ("/".join(["x"] * 3000), "file name too long"),
        ("circle/x", "too many levels of symbolic links"),
    ],
)
def test_what_can_be_no_path_is_one_sentence(given, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match=reason) as refused:
        as_path(given, "Output file", "written")
    assert str(refused.value).startswith("Output file ")
    assert str(refused.value).endswith(".")


def test_a_folder_that_must_not_be_entered_is_one_sentence(monkeypatch):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(InputError, match=r"^Path 'a/b' can not be read: permission denied\.$"):
        as_path("a/b")


def test_home_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/x/y") == tmp_path / "x" / "y"
    assert as_path("~") == tmp_path
    monkeypatch.chdir("/")
    assert as_path("./~/x") == as_path(as_path("./~/x")) == Path("/~/x")  # a folder of that name, if it must be
    assert beside(Path("/somewhere/file.yaml"), "~/x.yaml") == str(tmp_path / "x.yaml")
    assert beside(Path("/somewhere/file.yaml"), "x.yaml") == "/somewhere/x.yaml"
    assert beside(Path("/somewhere/file.yaml"), "/x.yaml") == "/x.yaml"


def test_names_up_to_the_longest_can_be_written(tmp_path):
    with replacing(tmp_path / ("x" * 255), "w") as file:
        file.write("text")
    with replacing(tmp_path / ("x" * 255), "wb") as file:
        file.write(b"bytes")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


def test_a_pipe_is_written_and_stays(tmp_path):
    reading, writing = os.pipe()
    with replacing(f"/dev/fd/{writing}") as file:
        file.write("text")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "text"
