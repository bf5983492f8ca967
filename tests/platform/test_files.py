# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.platform.files import check_writable_file, check_writable_folder, write_json, write_text


def test_json_is_written_whole_with_plain_values(tmp_path):
    path = tmp_path / "new" / "data.json"
    write_json(path, {"array": np.array([1.5, np.nan]), "path": tmp_path, 3: (1, float("inf")), "none": None})
    expected = {"array": [1.5, None], "path": str(tmp_path), "3": [1, None], "none": None}
    assert json.loads(path.read_text()) == expected
    assert [file.name for file in path.parent.iterdir()] == ["data.json"]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "data.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_written_files_can_be_read_by_others(tmp_path):
    write_text(tmp_path / "a.txt", "text")
    (tmp_path / "b.txt").write_text("text")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_a_folder_that_can_be_made_is_accepted_and_not_made(tmp_path):
    check_writable_folder(tmp_path / "a" / "b")
    check_writable_file(tmp_path / "c" / "file.json")
    assert not list(tmp_path.iterdir())


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"'.*file/run' can not be written: not a directory\.$"):
        check_writable_folder(tmp_path / "file" / "run")
    with pytest.raises(InputError, match="can not be written"):
        write_json(tmp_path / "file" / "data.json", {})


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        check_writable_file(tmp_path)
