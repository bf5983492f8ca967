# SPDX-License-Identifier: Apache-2.0
"""The command line as a whole: help, versions, what is refused, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from edgegen.algorithms.methods.known import METHODS
from edgegen.platform.cli import app
from edgegen.platform.commands import live
from tests.platform.command_lines import EDGEGEN, refused, run

GROUP: Any = typer.main.get_command(app)
COMMANDS = tuple(GROUP.commands)


def test_help_lists_every_command():
    for arguments in ([], ["--help"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert all(f"  {command} " in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_help_names_the_methods_that_there_are(tmp_path, monkeypatch):
    (tmp_path / "quick_plugin.py").write_text(
        "from edgegen.algorithms.methods.known import METHODS\nMETHODS.entries.setdefault('quickly', None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(METHODS, "entries", {**METHODS.entries})
    for command in ("train", "scaling"):
        assert "ladts or t2drl" in " ".join(run(command, "--help").stdout.split())
    monkeypatch.setenv("EDGEGEN_PLUGINS", "quick_plugin")
    assert "or quickly." in run("train", "--help").stdout


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("edgegen 0.")


def test_help_does_not_load_what_is_heavy():
    heavy = ("torch", "ray", "mlflow", "diffusers", "scipy", "matplotlib", "pandas")
    code = f"import sys, edgegen.platform.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scenarios_show_servers_and_load(tmp_path):
    result = run("scenarios", "--json", tmp_path / "s.json")
    assert result.exit_code == 0
    assert "ladts-paper:n20" in result.stdout
    data = json.loads((tmp_path / "s.json").read_text())
    assert data["ladts-paper"]["servers"] == 20
    assert data["ladts-paper"]["load"] == pytest.approx(1.24, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compre"], "Did you mean 'compare'?"),
        (["compare", "--episods", "3"], "No such option: --episods"),
        (["compare", "--episodes", "0"], "'--episodes'"),
        (["compare", "--episodes", "many"], "'--episodes'"),
        (["compare", "--seed", "-1"], "'--seed'"),
        (["compare", "--seed", str(2**32)], "'--seed'"),
        (["compare", "unifrom"], "Did you mean 'uniform'?"),
        (["compare", "uniform", "uniform"], "Two policies are called 'uniform'"),
        (["compare", "uniform", "--label", "x"], "1 --label names for 0 trained policies"),
        (["compare", "-s", "t2drl-contended", "cacher=rcars"], "Nobody decides for the role 'allocator'"),
        (["compare", "-s", "t2drl-contended", "cacher=rcars", "rcars"], "add allocator=POLICY."),
        (["compare", "-s", "t2drl-contended", "cacher=rcars", "allocater=schrs"], "Did you mean 'allocator'?"),
        (["compare", "-s", "t2drl-contended", "cacher=rcars", "allocator=scrhs"], "Did you mean 'schrs'?"),
        (["compare", *(2 * ["router=local"])], "Two policies are called 'router=local'"),
        (["compare", "--reference", "nobody"], "reference 'nobody'"),
        (["compare", "--scenario", "dmo"], "Did you mean 'demo'?"),
        (["compare", "--scenario", "missing.yaml"], "missing.yaml"),
        (["compare", "--set", "slot=3"], "Did you mean 'slots'?"),
        (["compare", "--set", "slots"], "must look like key=value"),
        (["compare", "--set", "slots=-1"], "'slots' is -1"),
        (["compare", "--set", "slots=three"], "'slots' is 'three'"),
        (["compare", "--set", "tasks_per_slot.hgh=3"], "Did you mean 'high'?"),
        (["compare", "--set", "capacity_gcycles_s=[1, 2]"], "both need one per server"),
        (["compare", "--plot", "delays.gif"], "must end in .png or .svg"),
        (["compare", "--table", "delays.xls"], "must end in .csv, .tex or .md"),
        (["compare", "--table", "a.md", "--json", "a.md"], "both the machine-readable result and the table"),
        (["evaluate"], "Missing argument"),
        (["evaluate", "."], "holds no trained policy"),
        (["train", "ladst"], "Did you mean 'ladts'?"),
        (["train", "--preset", "imporved"], "Did you mean 'improved'?"),
        (["train", "--set", "actor_l=1e-3"], "Did you mean 'actor_lr'?"),
        (["train", "--set", "actor_lr=-1"], "'actor_lr' is -1"),
        (["train", "--set", "algorithm.slots=1"], "slots"),
        (["train", "--episodes", "0"], "'--episodes'"),
        (["train", "--resume", "nowhere"], "holds no run to resume"),
        (["train", "--resume", "run", "--preset", "paper"], "--preset can not be combined with --resume"),
        (["train", "--resume", "run", "--set", "gamma=0.9"], "--set can not be combined with --resume"),
        (["replay", "--trace", "missing.csv", "--out", "x.csv"], "missing.csv"),
        (["bench", "--json", "."], "is a folder"),
        (["bench", "--device", "toaster"], "Device 'toaster' can not be used"),
        (["serve", "--config", "dmo"], "Did you mean 'demo'?"),
        (["serve", "--port", "0"], "'--port'"),
        (["generate", "--count", "0"], "'--count'"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(*arguments)
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize("command", ["scenarios", "compare", "bench"])
def test_an_unwritable_output_is_refused_before_any_work(command, tmp_path):
    (tmp_path / "file").write_text("")
    assert "can not be written" in refused(command, "--json", tmp_path / "file" / "results.json")


def test_an_unwritable_run_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    assert "can not be written" in refused("train", "--out", tmp_path / "file" / "run")


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert "--resume" in refused("train", "--out", tmp_path)
    assert (tmp_path / "run.json").read_text() == "{}"


def test_the_demo_does_not_mix_its_output_with_other_files(tmp_path):
    (tmp_path / "precious").write_text("")
    assert "holds something already" in refused("demo", "--out", tmp_path)


def test_missing_serve_libraries_are_one_sentence(monkeypatch):
    monkeypatch.setattr(live, "SERVE_MODULES", ("json", "no_such_library"))
    for command in ("serve", "generate"):
        assert refused(command) == "The live service needs the library 'no_such_library'; install edgegen[serve]."


def test_generate_without_a_service_is_one_sentence(tmp_path):
    pytest.importorskip("httpx")
    sentence = refused("generate", "a red circle", "--url", "http://127.0.0.1:9", "--out", tmp_path / "out")
    assert "can not be reached" in sentence


@pytest.mark.parametrize("folder", [Path(__file__).parents[2], Path("/")])
def test_the_module_runs_from_anywhere(folder):
    # In the repository root a folder named `platform` lies beside the standard library's module of that name.
    done = subprocess.run([*EDGEGEN, "--version"], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("edgegen ")


def test_exit_code_and_no_traceback_in_a_real_process():
    done = subprocess.run([*EDGEGEN, "compare", "unifrom"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_with_130_and_no_traceback():
    code = (
        "import signal; from edgegen.platform import cli; from edgegen.platform.runs import comparison; "
        # To this very thread: another one would only pass it on, some time later.
        "comparison.evaluate = lambda *a, **k: signal.raise_signal(signal.SIGINT); "
        "cli.app(['compare', 'uniform'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
