# SPDX-License-Identifier: Apache-2.0
"""Studies in the form of papers: own names, tables of LaTeX, frames, and figures as PDF."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import edgegen
from edgegen.platform.studies.data import ExperimentData, save_data
from edgegen.platform.studies.exports import episodes_frame, levels_frame, paper_sheet
from edgegen.platform.studies.figures import draw_missing, targets_of
from edgegen.platform.studies.plan import make_plan
from edgegen.platform.studies.report import write_report
from edgegen.platform.studies.run import ReproduceRequest, reproduce
from edgegen.platform.studies.spec import FULL, QUICK, StudySpec
from edgegen.platform.studies.tables import many_worlds, one_world
from tests.platform.made_up_study import EPISODES, JUDGED, SEEDS, made_up

LABELS = {"least-delay": "Least delay", "capacity-weighted": "By speed", "demo": "Five servers"}


def test_a_row_for_every_episode_of_every_training():
    data = ExperimentData(made_up())
    frame = episodes_frame(data)
    assert len(frame) == (3 * len(SEEDS) + 3) * JUDGED
    good = frame[(frame.policy == "good") & (frame.training_seed == 3)]
    assert good.episode.tolist() == list(range(JUDGED))
    assert good.mean_delay_s.to_numpy() == pytest.approx(data.found(("demo", None), "good").values("mean_delay_s")[3])
    assert set(frame.kind) == {"learned", "rule"}
    assert frame[frame.kind == "rule"].training_seed.isna().all()


def test_levels_are_those_of_the_report():
    data = ExperimentData(made_up(scenarios=("demo", "stable")))
    frame = levels_frame(data).set_index(["scenario", "policy"])
    assert frame.loc[("stable", "capacity-weighted"), "ratio"] == 1
    row = frame.loc[("demo", "good")]
    base = data.base(("demo", None)).mean()
    assert row.ratio == pytest.approx(row.mean_delay_s / base, rel=0.02)
    assert row.difference_s_low < row.difference_s < row.difference_s_high < 0
    assert row.trainings == len(SEEDS)


def test_own_names_stand_everywhere():
    one = ExperimentData(made_up(), LABELS)
    many = ExperimentData(made_up(scenarios=("demo", "stable")), LABELS)
    axis = {"label": "N (tasks)", "field": "scenario.tasks_per_slot.high", "values": [4, 8]}
    over = ExperimentData(made_up(["axis"], axis=axis), LABELS)
    page = "\n".join([*one_world(one, one.places[0]), *many_worlds(many)])
    drawn = [target.figure for data in (one, many, over) for target in targets_of(data)]
    for text in (page, str(drawn), *(paper_sheet(data).to_latex() for data in (one, over))):
        assert "least-delay" not in text
        assert "capacity-weighted" not in text
        assert "Least delay" in text
        assert "By speed" in text
    assert "| Five servers | `stable` |" in page
    assert "`opt-ts`" in page  # what has no name of its own is code


def test_the_table_of_a_paper():
    text = paper_sheet(ExperimentData(made_up(), LABELS)).to_latex("tab:made")
    lines = text.splitlines()
    assert r"  \label{tab:made}" in lines
    assert r"    Policy & Mean delay (s) & Difference to By speed & Ratio & Training episodes \\" in lines
    (row,) = (line for line in lines if line.startswith("    By speed"))
    assert row.split(" & ")[2:4] == ["reference", "1"]
    best, second, *_ = (line.split(" & ")[0].strip() for line in lines[lines.index(r"    \midrule") + 1 :])
    assert (best, second) in {("opt-ts", "Good"), ("opt-ts", "Like")}
    axis = {"label": "N (tasks)", "field": "scenario.tasks_per_slot.high", "values": [4, 8]}
    headings = [column.heading for column in paper_sheet(ExperimentData(made_up(["axis"], axis=axis))).columns]
    assert headings == ["Policy", "N (tasks) 4", "N (tasks) 8", "Training episodes"]


def test_a_study_is_read_back_as_frames(tmp_path):
    other = made_up(scenarios=("stable",))
    other["experiment"]["name"] = "other"
    for data in (made_up(), other):
        save_data(data, tmp_path / "reproduce-mine" / "data")
    write_report("T", "", [ExperimentData(made_up())], [], tmp_path / "reproduce-mine.md", tmp_path / "reproduce-mine")
    table = pd.read_csv(tmp_path / "reproduce-mine" / "tables" / "made.csv")
    study = edgegen.load_study(tmp_path / "reproduce-mine.md")
    assert list(study.experiments) == ["made", "other"]
    levels = study.levels()
    pd.testing.assert_frame_equal(levels[levels.experiment == "made"], table, check_dtype=False)
    frame = study.to_frame()
    assert frame.groupby("experiment").size().tolist() == [(3 * len(SEEDS) + 3) * JUDGED] * 2
    assert np.isfinite(frame.mean_delay_s).all()
    assert study.experiments["made"].found(("demo", None), "good").curves.shape == (len(SEEDS), EPISODES)
    same = edgegen.load_study(tmp_path / "reproduce-mine").to_frame()
    pd.testing.assert_frame_equal(frame, same)
    with pytest.raises(edgegen.InputError, match="is no study that was run"):
        edgegen.load_study(tmp_path)


@pytest.mark.parametrize(
    ("runs", "out", "size", "command"),
    [
        ("runs/reproduce-my-study", "docs/results", "full", "edgegen reproduce 'my study.yaml'"),
        ("r", "paper", "quick", "edgegen reproduce 'my study.yaml' --quick --out paper --runs r"),
    ],
)
def test_the_command_of_a_report_is_the_one_that_was_given(tmp_path, monkeypatch, runs, out, size, command):
    monkeypatch.chdir(tmp_path)
    extent = {"seeds": [0], "episodes": 1, "evaluation_episodes": JUDGED, "evaluation_seed": 1}
    experiment = made_up(["final"])["experiment"] | {"methods": [], "full": {}, "quick": {}}
    spec = {"name": "my-study", "title": "T", "experiments": [experiment], "full": extent, "quick": extent}
    size_ = FULL if size == "full" else QUICK
    plan = make_plan(StudySpec.model_validate(spec), size_)
    request = ReproduceRequest(plan, Path(runs), Path(out), report_only=True, study="my study.yaml")
    assert request.command == command
    data = made_up(["final"]) | {"size": size}
    folder = Path(out) / ("reproduce-my-study" + ("-quick" if size == "quick" else ""))
    save_data(data, folder / "data")
    report = reproduce(request, Console(quiet=True)).report
    assert report is not None
    assert f"```bash\n{command}\n{command} --report-only" in report.read_text()


def test_pdf_is_drawn_where_it_is_asked_for(tmp_path):
    targets = targets_of(ExperimentData(made_up(["final"])))
    assert draw_missing(targets, tmp_path) == ["made-final"]
    assert not (tmp_path / "made-final.pdf").exists()
    assert draw_missing(targets, tmp_path, pdf=True) == ["made-final"]
    assert (tmp_path / "made-final.pdf").read_bytes().startswith(b"%PDF")
    assert draw_missing(targets, tmp_path, pdf=True) == []
