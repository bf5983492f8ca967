# SPDX-License-Identifier: Apache-2.0
"""Every path and every name that a command takes, walked through the app itself."""

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import edgegen.envs.core.compiled  # noqa: F401 - says where compiled code is kept, before a test moves the home folder
from edgegen.platform.cli import app

LONG = "x" * 300
# What else a command needs, and what it gets where that is not what is tried.
NEEDED = {
    "replay": {"trace": "t.csv", "out": "new.csv"},
    "sweep": {"file": "s.yaml"},
    "evaluate": {"policy": "uniform"},
    "reproduce": {"study": "ladts"},
    "tune": {"rule": "priced-greedy"},
    "train": {"algorithm": "ladts", "register": "mine"},
    "loadtest": {"policy": "earliest"},
    "trace import": {"file": "t.csv", "out": "new.parquet"},
    "play": {"scenario": "fleet-8", "policy": "earliest", "out": "new.html"},
    "trace fit": {"file": "t.parquet", "out": "new.yaml"},
    "trace compare": {"file": "t.parquet", "scenario": "fleet-8"},
    "keys add": {"name": "studio"},
    "k8s render": {"service": "s.yaml", "out": "new"},
    "keys revoke": {"name": "studio"},
}
# Names that are looked up: those of what is shipped or the path of a file, and those of policies.
NAMES = {
    ("train", "scenario"): ".yaml",
    ("train", "bar"): "",
    ("scaling", "scenario"): ".yaml",
    ("evaluate", "scenario"): ".yaml",
    ("compare", "scenario"): ".yaml",
    ("tune", "scenario"): ".yaml",
    ("play", "scenario"): ".yaml",
    ("replay", "scenario"): ".yaml",
    ("trace fit", "scenario"): ".yaml",
    ("trace fit", "config"): ".yaml",
    ("trace compare", "scenario"): ".yaml",
    ("reproduce", "study"): ".yaml",
    ("scenarios", "files"): ".yaml",
    ("serve", "config"): ".yaml",
    ("loadtest", "config"): ".yaml",
    ("loadtest", "policy"): "",
    ("evaluate", "policy"): "",
    ("compare", "policies"): "",
    ("play", "policy"): "",
    ("replay", "policy"): "",
    ("serve", "policy"): "",
    ("profile", "model"): "",
    ("k8s render", "manifests"): "",
}
# Texts that are neither a path nor looked up as one.
OTHER_TEXTS = {
    "address", "algorithm", "arrivals", "batches", "device", "dtype", "faults", "form", "host", "labels", "model",
    "name", "only", "preset", "prompts", "quality", "reference", "register", "rule", "settings", "steps",
    "storage", "url",
}  # fmt: skip


def every_command():
    """Every command, those of groups as two words, and its function."""
    commands: Any = app.registered_commands
    for command in commands:
        yield command.callback.__name__.replace("_", "-"), command.callback
    groups: Any = app.registered_groups
    for group in groups:
        for command in group.typer_instance.registered_commands:
            yield f"{group.name} {command.name or command.callback.__name__}", command.callback


def parameters():
    """Every parameter of every command: command, name, information, type."""
    for command, callback in every_command():
        hints = typing.get_type_hints(callback, include_extras=True)
        for name in inspect.signature(callback).parameters:
            hint = hints[name]
            if typing.get_origin(hint) is typing.Annotated:
                kind, information = typing.get_args(hint)[:2]
                yield command, name, information, kind


def is_path(kind):
    return kind is Path or Path in typing.get_args(kind)


PATHS = {(command, name): information for command, name, information, kind in parameters() if is_path(kind)}


def kind_of(command, name):
    checker = PATHS[command, name].callback.__name__
    writers = ("curve_file", "plot_file", "png_file", "profile_json", "table_file")
    return "output_file" if checker in writers else checker


def ending(command, name):
    if name in ("plot", "png") or (command, name) == ("trace compare", "out"):
        return ".png"
    if name == "table":
        return ".tex"
    if name in ("json", "profile_file"):
        return ".json"
    return {
        "profile": ".yaml",
        "replay": ".csv",
        "sweep": ".yaml",
        "trace import": ".csv",
        "trace fit": ".yaml",
        "trace compare": ".parquet",
        "k8s render": ".yaml",
    }.get(command, ".json")


def line(command, name, value):
    """A command line in which one parameter has a value."""
    arguments = command.split()
    given = {**NEEDED.get(command, {}), name: value}
    for key, text in given.items():
        information = next(info for owner, own, info, _ in parameters() if (owner, own) == (command, key))
        if isinstance(information, typer.models.OptionInfo):
            declared = (information.default, *(information.param_decls or ()))  # the first one is taken for a default
            flags = [flag for flag in declared if isinstance(flag, str) and flag.startswith("--")]
            arguments += [flags[0] if flags else "--" + key.replace("_", "-"), text]
        else:
            arguments.append(text)
    return arguments


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))  # its cache belongs to nobody here
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "file").write_text("")
    (tmp_path / "t.csv").write_text("slot,edge,index,size_mbit,workload_gcycles,result_mbit\n")
    (tmp_path / "t.parquet").write_bytes(b"")
    (tmp_path / "s.yaml").write_text("{}")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


def refused(folder, arguments):
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, (arguments, result.output, result.exception)
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""
    assert sorted(folder.rglob("*")) == before
    return result.stderr


def test_every_path_is_checked_before_the_command_runs():
    for (command, name), information in PATHS.items():
        assert information.callback is not None, f"{command} {name}"
        assert information.parser is str, f"{command} {name}"  # typer's own paths are checked in its own way
        assert kind_of(command, name) in ("output_file", "output_folder", "check", "run_folder", "file_or_folder")


def test_every_text_is_known_as_a_path_a_name_or_neither():
    for command, name, _, kind in parameters():
        if kind is str or str in typing.get_args(kind) or list[str] in typing.get_args(kind):
            assert (command, name) in NAMES or name in OTHER_TEXTS, f"{command} {name}"


@pytest.mark.parametrize(("command", "name"), PATHS, ids=map(" ".join, PATHS))
def test_no_command_takes_a_path_that_can_not_be_one(command, name, folder):
    end = "" if kind_of(command, name) in ("output_folder", "run_folder") else ending(command, name)
    for value, reason in (
        (LONG + end, "file name too long"),
        (f"new/{LONG}/new{end}", "file name too long"),
        ("/".join(["x"] * 3000) + end, "file name too long"),
        (f"~nobody-of-this-name/new{end}", "there is no home folder '~nobody-of-this-name'"),
        (f"new\0{end}", "holds no NUL character"),
        (f"circle/new{end}", "too many levels of symbolic links"),
        ("", "is an empty text"),
    ):
        assert reason in refused(folder, line(command, name, value)), value


@pytest.mark.parametrize(("command", "name"), PATHS, ids=map(" ".join, PATHS))
def test_files_and_folders_are_told_apart(command, name, folder):
    kind, end = kind_of(command, name), ending(command, name)
    below = refused(folder, line(command, name, f"file/new{end}")) if kind != "run_folder" else ""
    if kind in ("output_file", "output_folder"):
        assert "can not be written: not a directory" in below
    if kind == "output_file":
        (folder / f"folder{end}").mkdir()
        assert "is a folder; give the name of a file" in refused(folder, line(command, name, f"folder{end}"))
    elif kind == "output_folder":
        assert "can not be written: not a directory" in refused(folder, line(command, name, "file"))
    elif kind == "check":
        assert "There is no" in below
        assert "is a folder; give the name of a file" in refused(folder, line(command, name, "home"))
    elif kind == "file_or_folder":
        assert "There is no" in below
        assert "holds no recorded request" in refused(folder, line(command, name, "home"))
    else:
        assert "is a file; give the folder of a run" in refused(folder, line(command, name, "file"))


@pytest.mark.parametrize(("command", "name"), PATHS, ids=map(" ".join, PATHS))
def test_a_tilde_is_the_home_folder_also_after_an_equals_sign(command, name, folder):
    checked = PATHS[command, name].callback
    if kind_of(command, name) in ("check", "file_or_folder"):
        (folder / "home" / f"x{ending(command, name)}").write_text("")
    assert checked(f"~/x{ending(command, name)}") == folder / "home" / f"x{ending(command, name)}"


@pytest.mark.parametrize(("command", "name"), NAMES, ids=map(" ".join, NAMES))
def test_names_that_can_not_be_paths_are_refused_alike(command, name, folder):
    if command in ("serve", "profile", "loadtest"):
        pytest.importorskip("diffusers")
    end = NAMES[command, name]
    for value in (LONG + end, LONG, f"~nobody-of-this-name/x{end}", f"x\0{end}", f"circle/x{end}", f"file/x{end}", ""):
        refused(folder, line(command, name, value))
    if end:
        (folder / "folder.yaml").mkdir()
        assert "is a folder" in refused(folder, line(command, name, "folder.yaml"))


def test_results_go_home(folder):
    result = CliRunner().invoke(app, ["scenarios", "--json=~/x.json"])
    assert result.exit_code == 0, result.output
    assert (folder / "home" / "x.json").is_file()
    assert not (folder / "~").exists()


def test_paths_in_files_mean_what_they_mean_on_the_command_line(folder):
    (folder / "home" / "base.yaml").write_text("extends: demo\nslots: 3\n")
    (folder / "a.yaml").write_text("extends: ~/base.yaml\nname: mine\n")
    result = CliRunner().invoke(app, ["compare", "uniform", "-s", "a.yaml", "-n", "1"])
    assert result.exit_code == 0, result.output
    (folder / "b.yaml").write_text(f"extends: {LONG}.yaml\n")
    assert "file name too long" in refused(folder, ["compare", "-s", "b.yaml"])


def test_the_longest_name_can_be_written(folder):
    name = "x" * 250 + ".json"
    result = CliRunner().invoke(app, ["scenarios", "--json", name])
    assert result.exit_code == 0, result.output
    assert (folder / name).is_file()


def test_a_plot_leaves_the_other_results_alone(folder):
    sentence = refused(folder, ["compare", "--json", "x.svg", "--plot", "x.png"])
    assert "both the machine-readable result and the plot of the other kind" in sentence
