# SPDX-License-Identifier: Apache-2.0
import itertools
import json
import re

import pytest
import torch
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.curves import load_curves
from edgegen.platform.cli import app
from edgegen.platform.commands import profile as command
from edgegen.platform.commands.profile import SELECTED, parse_batches, parse_steps
from edgegen.serve.profile.model_profile import read_profile


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(*arguments):
    return invoke("profile", *arguments)


def refused(*arguments):
    """Run a wrong command line; returns the sentence it was refused with."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith((".", "?"))
    return lines[0]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("1:5", (1, 2, 3, 4, 5)),
        ("2:3", (2, 3)),
        ("1:10:4", (1, 5, 9, 10)),  # the last one always
        ("1:50:1", tuple(range(1, 51))),
        ("8, 1,2,2", (1, 2, 8)),
        ("1000,1", (1, 1000)),
    ],
)
def test_step_counts(text, counts):
    assert parse_steps(text) == counts


@pytest.mark.parametrize(("first", "last"), [(1, 50), (1, 17), (7, 90), (1, 1000), (10, 1000), (900, 1000)])
def test_a_long_range_is_thinned_out_evenly(first, last):
    counts = parse_steps(f"{first}:{last}")
    assert (counts[0], counts[-1], len(counts)) == (first, last, SELECTED)
    gaps = [after - before for before, after in itertools.pairwise(counts)]
    assert all(after >= before - 1 for before, after in itertools.pairwise(gaps))  # rounding apart


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("5:1", "the first step count must not exceed the last"),
        ("0:5", "from 1 to 1000"),
        ("1:5000", "from 1 to 1000"),
        ("1,2,1001", "from 1 to 1000"),
        ("1:5:0", "the stride must be 1 or more"),
        ("4", "two or more"),
        ("4:4", "two or more"),
        ("4,4", "two or more"),
        ("", "must look like"),
        ("1-5", "must look like"),
        ("1:2:3:4", "must look like"),
        ("-1:5", "must look like"),
        ("one,two", "must look like"),
        ("1:" + "9" * 5000, "must look like"),
    ],
)
def test_wrong_step_counts_are_refused(text, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        parse_steps(text)
    assert repr(text) in str(caught.value)
    assert sentence in refused(f"--steps={text}")


def test_numbers_of_pictures():
    assert parse_batches("4, 1,2,4") == (1, 2, 4)
    for text in ("", "0", "257", "1:4", "two", "1,"):
        assert f"--batches is '{text}', but must be numbers from 1 to 256" in refused(f"--batches={text}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--quality", "inacuracy"], "Did you mean 'inaccuracy'?"),
        (["--quality", "best"], "must be one of tv, inaccuracy, distance"),
        (["--out", "curves.json"], "must end in .yaml"),
        (["--out", "file/curves.yaml"], "can not be written"),
        (["--json", "."], "is a folder"),
        (["--profile", "profile.yaml"], "must end in .json"),
        (["--profile", "same.json", "--json", "same.json"], "both the machine-readable result and the profile"),
        (["--plot", "curves.gif"], "must end in .png or .svg"),
        (["--pictures", "0"], "'--pictures'"),
        (["--repeats", "0"], "'--repeats'"),
        (["--guidance", "-1"], "'--guidance'"),
        (["--guidance", "inf"], "must be a finite number"),
        (["--out", "same.yaml", "--json", "same.yaml"], "both the machine-readable result and the curve file"),
        (["--seed", "-1"], "'--seed'"),
        (["--model", "empty"], "Unknown model"),
        (["--device", "toaster"], "Device 'toaster' can not be used"),
    ],
)
def test_wrong_input_is_refused_before_any_work(arguments, sentence, tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_missing_libraries_are_one_sentence(monkeypatch):
    monkeypatch.setattr(command, "MODULES", ("json", "no_such_library"))
    assert refused() == "Profiling needs the library 'no_such_library'; install edgegen[serve]."


def test_the_embedded_model_from_command_to_curve_file(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    endings = {"--out": "yaml", "--json": "json", "--plot": "png", "--profile": "profile.json"}
    files = [f"{option}={tmp_path / 'shapes'}.{ending}" for option, ending in endings.items()]
    files += ["--batches", "2,1"]
    monkeypatch.setenv("COLUMNS", "80")
    result = run("--steps", "1,2,4", "--pictures", 6, "--repeats", 2, "--seed", 3, *files)
    assert result.exit_code == 0, result.output
    assert "…" not in result.stdout  # nothing is cut off in a narrow terminal
    assert "s per step" in result.stdout
    assert "Few counts" in result.stdout
    assert "shapes.yaml" in result.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"shapes.json", "shapes.yaml", "shapes.png", "shapes.svg", "shapes.profile.json"}
    profile = read_profile(tmp_path / "shapes.profile.json")
    assert (profile.model, profile.device, profile.native_size, profile.batch_steps) == ("shapes-64", "cpu", 64, 4)
    assert [point.steps for point in profile.quality] == [1, 2, 4]
    assert [point.pictures for point in profile.batch] == [1, 2]
    assert profile.size_gb == pytest.approx(0.0142, abs=0.0002)
    assert "Load from the disk" in result.stdout
    curves = load_curves(tmp_path / "shapes.yaml")
    words = "edgegen profile --model shapes-64 --steps 1,2,4 --pictures 6 --repeats 2 --batches 2,1 --seed 3"
    assert f"`{words}`" in curves.source
    assert "inaccuracy" in curves.quality
    data = json.loads((tmp_path / "shapes.json").read_text())
    assert data["curves"]["curves"][0]["b1_s_per_step"] == curves.curves[0].b1_s_per_step
    assert [point["steps"] for point in data["points"]] == [1, 2, 4]


def test_the_shipped_curve_of_the_embedded_model():
    curves = load_curves("shapes-64")
    for part in ("`edgegen profile --model shapes-64 --steps 1:50", "1 thread", "cores", "torch", "diffusers"):
        assert part in curves.source
    assert "inaccuracy" in curves.quality
    (curve,) = curves.curves
    assert curve.model == "shapes-64"
    assert curve.a2_tv > 90 > 10 > curve.a4_tv
    assert curve.saturation_steps <= 5
    assert curve.tv_residual is not None
    assert curve.time_residual_s is not None
    assert curve.tv_residual < 5
    assert curve.time_residual_s < 0.1 * curve.time_s(torch.tensor(10.0))


def test_a_scenario_can_name_the_shipped_curve(tmp_path):
    (tmp_path / "lab.yaml").write_text("extends: t2drl-default\ncurves: shapes-64\nsteps_per_slot: 24\n")
    result = invoke("evaluate", "popular-static-best", "-n", 1, "-s", tmp_path / "lab.yaml")
    assert result.exit_code == 0, result.output
    overridden = load_scenario("t2drl-default", {"curves": "shapes-64"})
    assert overridden.curves == load_scenario(tmp_path / "lab.yaml").curves == load_curves("shapes-64")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"a3_steps": 1}, r"a3_steps \(1\) must exceed a1_steps \(2\)"),
        ({"a4_tv": 100}, r"a4_tv \(100\) must not exceed a2_tv \(90\)"),
    ],
)
def test_an_impossible_curve_file_is_one_sentence(tmp_path, change, sentence):
    constants = {"a1_steps": 2, "a2_tv": 90, "a3_steps": 4, "a4_tv": 5, "b1_s_per_step": 0.01, "b2_s": 0, **change}
    content = {"format": "edgegen-curves-1", "source": "made up", "curves": [constants]}
    (tmp_path / "wrong.yaml").write_text(json.dumps(content))
    result = invoke("evaluate", "popular-static", "-s", "t2drl-default", "--set", f"curves={tmp_path / 'wrong.yaml'}")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert re.search(sentence, result.stderr)
