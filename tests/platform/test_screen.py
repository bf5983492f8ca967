# SPDX-License-Identifier: Apache-2.0
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edgegen.platform import screen
from edgegen.platform.cli import app
from edgegen.platform.screen import PlainTable, activity, console, printable, progress_console

EDGEGEN = [sys.executable, "-m", "edgegen.platform.cli"]
FULL = Path("/dev/full")
ODD = "a [/b] [red]c :warning: \x1b[31m"


class Screen(io.StringIO):
    """A terminal, or a stream that fails with an error."""

    def __init__(self, terminal=False, error=None, encoding="utf-8"):
        super().__init__()
        self.terminal, self.error, self.given = terminal, error, encoding

    encoding = property(lambda self: self.given)

    def isatty(self):
        return self.terminal

    def write(self, text):
        if self.error is not None:
            raise self.error
        return super().write(text)


def edgegen(*arguments, **options):
    return subprocess.run([*EDGEGEN, *arguments], capture_output="stdout" not in options, check=False, **options)


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_read_as_markup(terminal, monkeypatch):
    stream = Screen(terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    table = PlainTable(title=ODD, caption=ODD)
    table.add_column("name", no_wrap=True)
    table.add_row(ODD)
    shown = console()
    shown.print(ODD, soft_wrap=True)
    shown.print(table)
    assert stream.getvalue().count("a [/b] [red]c :warning: \\x1b[31m") == 4


def test_a_table_shows_texts_as_they_are_on_any_console():
    out = io.StringIO()
    table = PlainTable(title=ODD)
    table.add_column("name")
    table.add_row(ODD)
    Console(file=out, width=100).print(table)
    assert out.getvalue().count("a [/b] [red]c :warning:") == 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_goes_on_is_shown_as_it_is(encoding, monkeypatch):
    stream = Screen(terminal=True, encoding=encoding)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with activity(progress_console(), "first [/x]") as say:
        say("then [/y] [red]")
    shown = stream.getvalue()
    assert "[/y] [red]" in shown
    assert encoding == "utf-8" or shown.isascii()


@pytest.mark.parametrize("columns", ["", "0", "1", "-5", "abc", "²", "9" * 20])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_width_that_is_none_is_ignored(columns, terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Screen(terminal))
    monkeypatch.delenv("COLUMNS", raising=False)
    without = console().width
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", "0")
    assert console().width == without >= 80
    assert console().height > 0


def test_a_width_that_is_one_is_taken(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert console().width == 100
    monkeypatch.setenv("COLUMNS", "123456789")
    assert console().width == 1000


@pytest.mark.parametrize("terminal", ["dumb", "xterm-256color"])
def test_colours_for_a_pipe_make_no_screen_of_it(terminal, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stderr", Screen())
    assert progress_console().width == 160
    assert not progress_console().is_interactive


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "gone"), OSError(errno.ENOSPC, "full"), ValueError()])
@pytest.mark.parametrize("terminal", [False, True])
def test_notes_that_can_not_be_written_end_nothing(error, terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen(terminal, error))
    notes = progress_console()
    with activity(notes) as say:
        say("going on")
        notes.print("a note")


def test_there_need_be_no_stream(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    console().print("nobody reads this")
    with activity(progress_console()) as say:
        say("nor this")


def test_characters_are_substituted():
    assert printable("a\nb\t±\x00\udcff") == "a\nb\t±\\x00\\udcff"
    screen.substitute_characters()
    assert "± \N{EN DASH} … é → 😀 \udcff".encode("ascii", "edgegen.substitute") == b"+- - ... e -> ? \xff"


def test_narrow_encodings_get_the_whole_table(tmp_path):
    arguments = ["evaluate", "uniform", "-n", "2", "--set", "slots=3", "--json", "e.json"]
    for encoding in ("ascii", "latin-1"):
        done = edgegen(*arguments, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"})
        assert done.returncode == 0, done.stderr
        assert ("+- is a" if encoding == "ascii" else "± is a") in done.stdout.decode(encoding)
        assert (tmp_path / "e.json").exists()


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["scenarios"]])
def test_a_full_disk_is_one_sentence(arguments, unbuffered):
    with FULL.open("w") as full:
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = edgegen(*arguments, stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 1
    assert done.stderr == b"The output can not be written: no space left on device.\n"


def test_a_closed_pipe_is_a_quiet_end():
    reading, writing = os.pipe()
    os.close(reading)
    done = edgegen("scenarios", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_other_broken_pipes_are_faults(monkeypatch):
    def broken(*arguments, **options):
        raise BrokenPipeError(errno.EPIPE, "a worker is gone")

    monkeypatch.setattr("edgegen.platform.runs.comparison.evaluate", broken)
    result = CliRunner().invoke(app, ["compare", "uniform", "-n", "1"])
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_sentence_that_can_not_be_written_keeps_its_code():
    with FULL.open("w") as full:
        assert edgegen("compre", stdout=subprocess.DEVNULL, stderr=full).returncode == 2
