import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgegen.algorithms.methods.known import METHODS
from edgegen.platform.cli import app
from edgegen.platform.commands import live
from edgegen.platform.commands.compare import folder_label, joined_by_role

COMMANDS = (
    "scenarios",
    "train",
    "evaluate",
    "compare",
    "replay",
    "bench",
    "profile",
    "sweep",
    "serve",
    "generate",
    "demo",
)
EDGEGEN = [sys.executable, "-m", "edgegen.platform.cli"]
TINY = ["--set", "slots=4", "--set", "tasks_per_slot.high=3"]


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def refused(*arguments):
    """Run a wrong command line; returns the sentence it was refused with."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith((".", "?"))
    return lines[0]


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
        (["compare", "--plot", "delays.pdf"], "must end in .png or .svg"),
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


def test_results_and_plot_need_files_of_their_own(tmp_path):
    same = ["--json", tmp_path / "c.png", "--plot", tmp_path / "c.png"]
    result = run("compare", "-s", "demo", "-n", "1", "uniform", *same)
    assert result.exit_code != 0
    assert "both the machine-readable result and the plot" in " ".join(result.output.split())
    assert not (tmp_path / "c.png").exists()


def test_compare_writes_table_json_and_plot(tmp_path):
    files = ["--json", tmp_path / "c.json", "--plot", tmp_path / "c.png"]
    result = run("compare", "local", "opt-ts", "--episodes", 3, "--seed", 1, *TINY, *files)
    assert result.exit_code == 0, result.output
    assert "capacity-weighted" in result.stdout  # the reference joins in
    data = json.loads((tmp_path / "c.json").read_text())
    assert set(data["policies"]) == {"local", "opt-ts", "capacity-weighted"}
    assert (data["seed"], data["episodes"], data["scenario"]["slots"]) == (1, 3, 4)
    assert (tmp_path / "c.png").exists()
    assert (tmp_path / "c.svg").exists()


@pytest.mark.parametrize(
    ("words", "policies"),
    [
        ("cacher=a allocator=b", ["cacher=a allocator=b"]),
        ("rule cacher=a allocator=b other", ["rule", "cacher=a allocator=b", "other"]),
        ("allocator=b cacher=a cacher=c allocator=d", ["allocator=b cacher=a", "cacher=c allocator=d"]),
        ("cacher=a cacher=c allocator=d", ["cacher=a", "cacher=c allocator=d"]),
        ("cacher=a rule allocator=b", ["cacher=a", "rule", "allocator=b"]),
        ("cacher=a allocater=b", ["cacher=a allocater=b"]),
        ("runs/x=1 cacher=models:/m@best allocator=runs/x=2", ["runs/x=1", "cacher=models:/m@best allocator=runs/x=2"]),
    ],
)
def test_words_by_role_side_by_side_are_one_policy(words, policies):
    assert joined_by_role(words.split(), ("cacher", "allocator")) == policies


def test_a_policy_by_role_in_quotes_is_whole():
    given = ["cacher=a", "cacher=b allocator=c", "allocator=d"]
    assert joined_by_role(given, ("cacher", "allocator")) == given


def test_compare_policies_by_role(tmp_path):
    words = ["cacher=rcars", "allocator=popular-static-best", "cacher=rcars", "allocator=rcars", "rcars"]
    small = ["-s", "t2drl-contended", "--set", "frames=2", "--set", "slots_per_frame=3", "-n", "2"]
    result = run("compare", *words, *small, "--label", "best", "--reference", "rcars", "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    assert "do not cover a second training run" not in " ".join(result.stdout.split())  # these are rules
    policies = json.loads((tmp_path / "c.json").read_text())["policies"]
    assert set(policies) == {"best", "cacher=rcars allocator=rcars", "rcars"}
    costs = {label: policy["per_episode"]["mean_cost"] for label, policy in policies.items()}
    assert costs["cacher=rcars allocator=rcars"] == costs["rcars"]
    assert all(best < rule for best, rule in zip(costs["best"], costs["rcars"], strict=True))


def test_evaluate_and_replay_take_a_policy_by_role(tmp_path):
    results = {}
    for policy in ("least-delay", "router=least-delay"):
        file = tmp_path / f"{policy}.json"
        result = run("evaluate", policy, "--episodes", 2, *TINY, "--json", file)
        assert result.exit_code == 0, result.output
        actions = json.loads(file.read_text())["actions"]
        assert list(actions) == ["rule"]
        results[policy] = actions["rule"]["mean_delay_s"]
    assert results["router=least-delay"] == results["least-delay"]
    trace = tmp_path / "trace.csv"
    trace.write_text("slot,edge,index,size_mbit,workload_gcycles,result_mbit\n0,0,0,3,1,0.8\n1,2,0,3,2,0.8\n")
    result = run("replay", "--trace", trace, "--policy", "router=local", "--out", tmp_path / "o.csv")
    assert result.exit_code == 0, result.output


def test_compare_is_repeatable(tmp_path):
    for name in ("a", "b"):
        run("compare", "uniform", "--episodes", 3, "--seed", 5, *TINY, "--json", tmp_path / name)
    first, again = (json.loads((tmp_path / name).read_text())["marl_eval"] for name in ("a", "b"))
    assert first == again


def test_evaluate_a_rule(tmp_path):
    result = run("evaluate", "least-delay", "--episodes", 2, *TINY, "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    assert "decisions/s" in result.stdout
    data = json.loads((tmp_path / "e.json").read_text())
    assert list(data["actions"]) == ["rule"]
    assert len(data["actions"]["rule"]["p99_delay_s"]) == 2


def test_replay_decides_anew(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("slot,edge,index,size_mbit,workload_gcycles,result_mbit\n0,0,0,3,1,0.8\n1,2,0,3,2,0.8\n")
    outputs = ("--out", tmp_path / "o.csv", "--json", tmp_path / "r.json")
    result = run("replay", "--trace", trace, "--policy", "local", *outputs)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "r.json").read_text())["tasks"] == 2
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 3
    before = trace.read_bytes()
    result = run("replay", "--trace", trace, "--policy", "local", "--out", tmp_path / "o.csv", "--json", trace)
    assert result.exit_code != 0
    assert "both the trace and the machine-readable result" in " ".join(result.output.split())
    assert trace.read_bytes() == before


def test_labels_of_trained_policies_are_their_runs(tmp_path):
    assert folder_label(str(tmp_path / "my-run")) == "my-run"
    assert folder_label(str(tmp_path / "my-run" / "checkpoint-000050")) == "my-run/checkpoint-000050"
    assert folder_label(str(tmp_path / "my-run" / "checkpoint-000050" / "policy")) == "my-run/checkpoint-000050"


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny training run made by the real command, with its output."""
    folder = tmp_path_factory.mktemp("train")
    arguments = ["train", "--episodes", "8", "--out", "run", "--json", "result.json", "--set", "copies=2", *TINY]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    done = subprocess.run(
        [*EDGEGEN, *arguments], cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.e2e
def test_train_says_where_the_run_is_and_how_to_go_on(trained):
    folder, done = trained
    assert done.stdout.strip() == "run"
    assert "episode 8 of 8" in done.stderr
    assert "edgegen compare run" in done.stderr
    assert "mlflow ui --backend-store-uri sqlite:///" in done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert len(result["episodes"]["delay_mean_s"]) == 8
    assert not result["interrupted"]


@pytest.mark.e2e
def test_the_suggested_comparison_runs(trained, monkeypatch):
    folder, done = trained
    line = next(line for line in done.stderr.splitlines() if line.startswith("Compare:"))
    monkeypatch.chdir(folder)
    result = run(*line.split()[2:], "--episodes", 2)
    assert result.exit_code == 0, result.output
    assert "run " in result.stdout
    assert "do not cover a second training run" in " ".join(result.stdout.split())
    by_role = run(
        "compare", "router=run", "run", "--scenario", "run/scenario.yaml", "--episodes", 2, "--json", "c.json"
    )
    assert by_role.exit_code == 0, by_role.output
    policies = json.loads((folder / "c.json").read_text())["policies"]
    delays = [policies[label]["per_episode"]["mean_delay_s"] for label in ("router=run", "run")]
    assert delays[0] == delays[1]
    assert "do not cover a second training run" in " ".join(by_role.stdout.split())


@pytest.mark.e2e
def test_a_trained_policy_is_evaluated_sampled_and_greedy(trained, tmp_path):
    folder, _ = trained
    scenario = ["--scenario", folder / "run" / "scenario.yaml"]
    result = run("evaluate", folder / "run", *scenario, "--episodes", 2, "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    actions = json.loads((tmp_path / "e.json").read_text())["actions"]
    assert list(actions) == ["sampled", "greedy"]
    assert (actions["sampled"]["explore"], actions["greedy"]["explore"]) == (True, False)


@pytest.mark.e2e
def test_labels_tell_trained_policies_apart(trained):
    folder, _ = trained
    scenario = ["--scenario", folder / "run" / "scenario.yaml", "--episodes", 2]
    assert "called 'run'" in refused("compare", folder / "run", folder / "run", *scenario)
    result = run("compare", folder / "run", folder / "run", "--label", "one", "--label", "two", *scenario)
    assert result.exit_code == 0, result.output
    assert "one" in result.stdout
    assert "two" in result.stdout


@pytest.mark.e2e
def test_a_policy_for_other_servers_is_refused(trained):
    folder, _ = trained
    assert "servers" in refused("compare", folder / "run", "--scenario", "ladts-paper")


@pytest.mark.e2e
def test_ctrl_c_saves_the_training_and_it_resumes(tmp_path):
    arguments = ["train", "--episodes", "100000", "--out", "run", "--no-tracking", "--set", "copies=2", *TINY]
    arguments += ["--checkpoint-every", "4"]
    process = subprocess.Popen(
        [*EDGEGEN, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "edgegen train --resume run" in stderr
    saved = json.loads((tmp_path / "run" / "episodes.json").read_text())["delay_mean_s"]
    total = len(saved) + 4
    again = [*EDGEGEN, "train", "--resume", "run", "--episodes", str(total), "--no-tracking", "--json", "r.json"]
    subprocess.run(again, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    delays = json.loads((tmp_path / "r.json").read_text())["episodes"]["delay_mean_s"]
    assert len(delays) == total
    assert delays[: len(saved)] == saved
