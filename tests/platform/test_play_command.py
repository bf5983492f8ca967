# SPDX-License-Identifier: Apache-2.0
"""`edgegen play`: a page, a picture, and one sentence for what can not be played."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgegen.platform.cli import app

WORLD = ["play", "fleet-8:scarce-s4", "--set", "frames=2", "--set", "frame_s=10"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*WORLD, *arguments])


def test_it_writes_a_page_and_a_picture(here: Path) -> None:
    policies = ["--policy", "price-greedy", "--policy", "router=earliest cacher=earliest allocator=home"]
    (here / "x.html").write_text("of yesterday")  # as for other commands, a result takes the place of an older one
    result = run(*policies, "--out", "x.html", "--png", "x.png", "--episode", "2")
    assert result.exit_code == 0, result.output
    assert "router=earliest cacher=earliest allocator=home" in result.stdout
    assert result.stderr.splitlines() == ["Plot: x.png", "Page: x.html"]
    page = (here / "x.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert sorted(path.name for path in here.iterdir()) == ["x.html", "x.png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--policy", "earlyest", "--out", "x.html"], "Did you mean 'earliest'?"),
        (["--policy", "home", "--policy", "home", "--out", "x.html"], "Two policies are called 'home'"),
        (
            ["--policy", "home", "--policy", "earliest", "--policy", "affinity", "--out", "x.html"],
            "There are 3 policies, but at most 2 stand side by side.",
        ),
        (["--policy", "home", "--out", "x.png", "--png", "x.png"], "both the page and the picture"),
        (["--policy", "home", "--out", "x.html", "--png", "x.jpg"], "must end in .png"),
        (["--policy", "home", "--out", "x.html", "--episode", "-1"], "--episode"),
        (["--out", "x.html"], "--policy"),
        (["--policy", "home"], "--out"),
    ],
)
def test_what_can_not_be_played_is_one_sentence(here: Path, arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(here.iterdir())


def test_a_world_of_another_kind_is_refused_before_its_policies_are_made(here: Path) -> None:
    result = CliRunner().invoke(app, ["play", "demo", "--policy", "nobody", "--out", "x.html"])
    assert result.exit_code == 2
    assert result.stderr == (
        "Scenario 'demo' is of the kind offloading, but only episodes of the kind fleet can be shown.\n"
    )
    assert not list(here.iterdir())
