# SPDX-License-Identifier: Apache-2.0
"""Pictures never depend on a person's matplotlib, and never decide whether a command succeeded."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.platform.canvas import own_style
from edgegen.platform.cli import app
from edgegen.platform.figures import plots
from edgegen.platform.figures.plots import plot_training
from edgegen.platform.files import draw_or_tell

COMPARE = ["compare", "least-delay", "-n", "2", "--set", "slots=3", "--plot", "x.png", "--json", "x.json"]
ODD_SETTINGS = {
    "text.usetex": "True", "font.family": "No Such Font", "svg.fonttype": "none", "savefig.dpi": "30",
    "axes.facecolor": "black", "figure.autolayout": "True", "savefig.bbox": "tight", "lines.linewidth": "9",
}  # fmt: skip


def test_other_peoples_settings_do_not_show(tmp_path):
    import matplotlib as mpl

    files = plot_training([1.0, 2.0], tmp_path / "plain.png", "title")
    with mpl.rc_context({"text.usetex": True, "font.size": 30, "savefig.dpi": 20, "axes.facecolor": "black"}):
        again = plot_training([1.0, 2.0], tmp_path / "odd.png", "title")
        assert mpl.rcParams["font.size"] == 30  # theirs again
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_a_dollar_is_no_formula(tmp_path):
    plot_training([1.0], tmp_path / "x.png", "costs $_{ and $ more")


DRAW = """
from pathlib import Path
from edgegen.platform.canvas import drawing, new_figure, save

@drawing
def draw():
    figure = new_figure(2, 2)
    figure.subplots().set_title("title")
    save(figure, Path("x.png"))

draw()
"""


def draw_elsewhere(folder, command, backend):
    """Draw in a process of its own, whose backend and settings are a person's."""
    (folder / "matplotlibrc").write_text("".join(f"{name}: {value}\n" for name, value in ODD_SETTINGS.items()))
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "x.svg").exists()
    return done.stderr


@pytest.mark.parametrize("backend", ["module://nowhere", "garbage", "TkAgg", "qtagg", ""])
def test_no_backend_matters(backend, tmp_path):
    assert draw_elsewhere(tmp_path, ["-c", DRAW], backend) == ""


def test_a_notebooks_backend_does_not_matter_to_a_command(tmp_path):
    command = ["-m", "edgegen.platform.cli", *COMPARE]
    told = draw_elsewhere(tmp_path, command, "module://matplotlib_inline.backend_inline")
    assert told == "Plot: x.png and x.svg\n"


def test_a_settings_file_that_is_no_text_costs_only_the_picture(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe\xff")
    done = subprocess.run(
        [sys.executable, "-m", "edgegen.platform.cli", *COMPARE],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Warning: a picture is missing, because it could not be drawn:")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "x.json").exists()


def test_a_picture_that_fails_hides_no_result(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no ink\nin two lines")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "plot_comparison", broken)
    result = CliRunner().invoke(app, COMPARE)
    assert result.exit_code == 0, result.output
    assert result.stderr == "Warning: a picture is missing, because it could not be drawn: no ink.\n"
    assert "least-delay" in result.stdout
    assert json.loads((tmp_path / "x.json").read_text())["episodes"] == 2


def test_results_are_written_before_they_are_shown_and_shown_if_they_can_not_be(tmp_path, monkeypatch):
    from edgegen.platform import files

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("rich.console.Console.print", lambda *arguments, **options: 1 / 0)
        for arguments in (COMPARE[:-4], ["evaluate", "uniform", "-n", "1", "--set", "slots=3"], ["scenarios"]):
            name = f"{arguments[0]}.json"
            assert isinstance(CliRunner().invoke(app, [*arguments, "--json", name]).exception, ZeroDivisionError)
            assert (tmp_path / name).exists()

    def full(path, text):
        raise InputError("no room.")

    monkeypatch.setattr(files, "write_text", full)
    result = CliRunner().invoke(app, ["scenarios", "--json", "x.json"])
    assert result.exit_code == 2
    assert result.stderr == "no room.\n"
    assert "demo" in result.stdout


def test_what_keeps_a_picture_from_being_drawn_is_one_sentence(tmp_path):
    told: list[str] = []
    (tmp_path / "file").write_text("")
    assert draw_or_tell(lambda: plot_training([1.0], tmp_path / "file" / "x.png", "title"), told.append) == []
    assert len(told) == 1
    assert told[0].endswith(("can not be written: file exists.", "can not be written: not a directory."))


def test_the_style_ends_with_its_block():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with pytest.raises(ZeroDivisionError), own_style():
        1 / 0  # noqa: B018 - what it raises
    assert dict(mpl.rcParams) == before
