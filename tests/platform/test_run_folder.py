# SPDX-License-Identifier: Apache-2.0
"""A folder belongs to one process at a time, and what has no result leaves none."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.platform.run_folder import LOCK_FILE, is_abandoned, take_again, take_new

STARTS = 8


def test_default_names_take_the_first_free_number(tmp_path):
    (tmp_path / "run-2").mkdir()
    names = [take_new(tmp_path / "run", "run", numbered=True).path.name for _ in range(3)]
    assert names == ["run", "run-3", "run-4"]
    (tmp_path / "file").touch()
    assert take_new(tmp_path / "file", "run", numbered=True).path.name == "file-2"


def test_of_many_that_start_at_once_every_one_gets_a_folder_of_its_own(tmp_path):
    together = threading.Barrier(STARTS)

    def start(_):
        together.wait()
        return take_new(tmp_path / "runs" / "run", "run", numbered=True)

    with ThreadPoolExecutor(STARTS) as pool:
        taken = list(pool.map(start, range(STARTS)))
    assert {each.path.name for each in taken} == {"run", *(f"run-{n}" for n in range(2, STARTS + 1))}


@pytest.mark.parametrize("is_there", [False, True])
def test_of_many_that_want_the_same_folder_one_gets_it(tmp_path, is_there):
    folder = tmp_path / "run"
    if is_there:
        folder.mkdir()
    together = threading.Barrier(STARTS)
    taken, refused = [], []

    def start(_):
        together.wait()
        try:
            taken.append(take_new(folder, "run"))
        except InputError as error:
            refused.append(str(error))

    with ThreadPoolExecutor(STARTS) as pool:
        list(pool.map(start, range(STARTS)))
    assert len(taken) == 1
    assert set(refused) == {
        f"'{folder}' holds a run already, which another process is working on; wait until it has ended, or choose "
        "another folder."
    }


def test_a_folder_can_be_taken_again_when_its_block_has_ended(tmp_path):
    refused = pytest.raises(InputError, match=r"Another process is working on the run in '.*run'; wait")
    with take_new(tmp_path / "run", "run"), refused:
        take_again(tmp_path / "run", "run")
    with take_again(tmp_path / "run", "run") as taken:
        assert taken.path == tmp_path / "run"


def test_whoever_is_killed_holds_nothing(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; from edgegen.platform.run_folder import take_new; "
        "taken = take_new(Path(sys.argv[1]), 'run'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")], check=False)
    assert is_abandoned(tmp_path / "run", [])
    with take_new(tmp_path / "run", "run"):
        pass


def test_what_has_no_result_leaves_nothing(tmp_path):
    with take_new(tmp_path / "run", "run") as taken:
        (taken.path / "run.json").touch()
        (taken.path / ".checkpoint-000050.part").mkdir()
        taken.give_back(["run.json"])
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_there_stays(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    with take_new(tmp_path / "run", "run") as taken:
        (taken.path / "run.json").touch()
        taken.give_back(["run.json"])
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_only_what_was_taken_is_abandoned(tmp_path):
    (tmp_path / "run.json").touch()
    assert not is_abandoned(tmp_path, ["run.json"])
    (tmp_path / LOCK_FILE).touch()
    assert is_abandoned(tmp_path, ["run.json"])
    (tmp_path / "checkpoint-000050").mkdir()
    assert not is_abandoned(tmp_path, ["run.json"])


def test_a_place_that_can_not_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can not be written"):
        take_new(tmp_path / "file", "run")
    with pytest.raises(InputError, match="can not be written"):
        take_new(tmp_path / "file" / "run", "run", numbered=True)
