# SPDX-License-Identifier: Apache-2.0
"""Figures, tables and verdicts: made of data alone, each figure only when it has to be, and true to the numbers."""

import json
import os
import re

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.platform.studies.claims import published_points, published_rows, verdicts, worth_learning
from edgegen.platform.studies.data import ExperimentData, marl_eval, read_data, save_data, write_if_changed
from edgegen.platform.studies.figures import draw_missing, targets_of
from edgegen.platform.studies.levels import block_width, blocks
from edgegen.platform.studies.report import write_report
from edgegen.platform.studies.tables import baseline_tables, tables_json
from tests.platform.made_up_study import ALL_FIGURES, EPISODES, SEEDS, made_up, with_tuned

TIMES = "\N{MULTIPLICATION SIGN}"


def times(folder) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix in (".png", ".svg")}


def test_a_figure_is_drawn_only_when_it_has_to_be(tmp_path):
    targets = targets_of(ExperimentData(made_up()))
    names = [f"made-{figure}" for figure in ALL_FIGURES]
    assert draw_missing(targets, tmp_path) == names
    for path in tmp_path.iterdir():
        os.utime(path, ns=(1, 1))
    assert draw_missing(targets, tmp_path) == []
    (tmp_path / "made-final.svg").unlink()
    assert draw_missing(targets, tmp_path) == ["made-final"]
    drawn = {name for name, time in times(tmp_path).items() if time != 1}
    assert drawn == {"made-final.png", "made-final.svg"}
    # Other final values, the same trainings: what shows trainings only stays.
    changed = targets_of(ExperimentData(made_up(shift=0.1)))
    assert draw_missing(changed, tmp_path) == ["made-final", "made-profile"]  # a shift improves nobody on others


def test_the_same_figure_is_the_same_file(tmp_path):
    targets = targets_of(ExperimentData(made_up(["curves"])))
    for folder in ("one", "two"):
        draw_missing(targets, tmp_path / folder)
    for name in ("made-curves.png", "made-curves.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_figures_hold_the_numbers():
    data = ExperimentData(made_up())
    figures = {target.name.removeprefix("made-"): target.figure for target in targets_of(data)}
    (panel,) = figures["efficiency"]["panels"]
    lines = {line["label"]: line for line in panel["lines"]}
    assert lines["Good"]["x"] == list(range(1, EPISODES + 1))
    curve = np.array(made_up()["cells"][0]["curves"])
    middle = np.sort(curve[:, -1])[1:4].mean()  # of five seeds the middle three
    assert lines["Good"]["estimate"][-1] == pytest.approx(middle / 2)
    assert lines["Good"]["low"][-1] < lines["Good"]["estimate"][-1] < lines["Good"]["high"][-1]
    rows = {row["label"]: row for panel in figures["improvement"]["panels"] for row in panel["rows"]}
    assert rows["Good better than Slow"]["estimate"] == 1
    assert 0 < rows["Good better than Like"]["estimate"] < 1
    order = [row["label"] for row in figures["final"]["panels"][0]["rows"]]
    assert order[0] == "opt-ts"
    assert order[-1] == "Slow"
    assert order.index("capacity-weighted") > order.index("least-delay")
    profile = {line["label"]: line["estimate"] for line in figures["profile"]["panels"][0]["lines"]}
    assert "capacity-weighted" not in profile
    assert all(np.array(profile["Good"]) >= np.array(profile["Slow"]))
    assert profile["opt-ts"][-1] == 1


def test_an_axis_has_levels_and_ratios_at_every_value():
    axis = {"label": "N (tasks)", "field": "scenario.tasks_per_slot.high", "values": [4, 8]}
    (target,) = targets_of(ExperimentData(made_up(["axis"], axis=axis)))
    levels, ratios = target.figure["panels"]
    assert [line["x"] for line in levels["lines"]] == [[4, 8]] * 6
    assert {line["label"] for line in levels["lines"]} - {line["label"] for line in ratios["lines"]} == {
        "capacity-weighted"
    }
    assert levels["x_label"] == "N (tasks)"
    assert levels["y_label"] == "mean delay (s)"


def test_blocks_are_whole_and_few():
    assert [block_width(n) for n in (8, 30, 31, 60, 61, 300, 500)] == [1, 1, 2, 2, 5, 10, 20]
    x, means = blocks(np.arange(65.0)[None])
    assert x.tolist() == [5 * n for n in range(1, 14)]
    assert means[0, 0] == 2


CLAIMS = [
    {"kind": "order", "text": "good before slow", "methods": ["good", "slow"], "first": 1, "last": 6},
    {"kind": "order", "text": "slow before good", "methods": ["slow", "good"], "first": 1, "last": 6},
    {"kind": "order", "text": "good before like", "methods": ["good", "like"], "first": 1, "last": 99},
    {"kind": "order", "text": "later", "methods": ["good", "like"], "first": 50, "last": 60},
    {"kind": "ratio", "text": "near opt", "method": "good", "reference": "opt-ts", "at_most": 1.5},
    {"kind": "ratio", "text": "nearer", "method": "good", "reference": "opt-ts", "at_most": 1.01},
    {"kind": "below", "text": "beats static", "method": "good", "reference": "capacity-weighted"},
    {"kind": "below", "text": "slow beats static", "method": "slow", "reference": "capacity-weighted"},
    {"kind": "below", "text": "good beats like", "method": "good", "reference": "like"},
]


def test_verdicts_follow_from_the_data():
    published = {"source": "x", "claims": CLAIMS}
    judged = verdicts(ExperimentData(made_up(published=published)))
    found = [verdict.verdict for verdict in judged]
    assert found[:2] == ["holds", "does not hold"]
    assert found[2] in ("holds", "undecided", "does not hold")
    assert found[3:8] == ["not run", "holds", "does not hold", "holds", "does not hold"]
    assert "Episodes 1 to 12 (trainings end after 12 episodes)" in judged[2].evidence
    mean, half = (float(part) for part in re.findall(r": (.*) ± (.*)\.", judged[8].evidence)[0])
    assert found[8] == ("holds" if mean + half < 1 else "does not hold" if mean - half > 1 else "undecided")


def test_a_claim_about_what_was_not_run_says_so():
    data = made_up(published={"source": "x", "claims": CLAIMS[:1]})
    data["cells"] = [part for part in data["cells"] if part["label"] != "slow"]
    (verdict,) = verdicts(ExperimentData(data))
    assert (verdict.verdict, verdict.evidence) == ("not run", "Slow was not trained in this run.")


def test_few_seeds_decide_nothing():
    data = made_up(published={"source": "x", "claims": CLAIMS})
    for part in data["cells"]:
        if part["label"] == "good":
            part["seeds"] = part["seeds"][:4]
    found = [verdict.verdict for verdict in verdicts(ExperimentData(data))]
    assert found == ["too few seeds"] * 3 + ["not run"] + ["too few seeds"] * 3 + ["does not hold", "too few seeds"]


def test_published_numbers_stand_beside_ours():
    published = {"source": "x", "final": {"opt-ts": 1.6, "good": 2.0}, "curves": {"good": {"6": 2.2, "50": 1.0}}}
    data = ExperimentData(made_up(published=published))
    best, good = published_rows(data)
    assert (best["label"], best["published_ratio"]) == ("opt-ts", 1)
    assert good["published_ratio"] == 1.25
    place = data.places[0]
    means = np.sort(data.means(place, "good"))
    assert good["ours"].estimate == pytest.approx(means[1:4].mean())
    assert good["to_reference"].estimate == pytest.approx(means[1:4].mean() / data.base(place).mean())
    (point,) = published_points(data)  # nothing of ours at episode 50
    curves = data.found(place, "good").curves
    assert point["ours"].estimate == pytest.approx(np.sort(curves[:, :10].mean(axis=1))[1:4].mean())


def test_learning_is_compared_with_the_best_rule_that_can_be_known():
    data = ExperimentData(made_up())
    found = worth_learning(data, ("demo", None))
    assert found is not None
    assert found["rule"] == "least-delay"  # Opt-TS is better, but knows everything
    assert found["method"] in ("Good", "Like")
    assert found["verdict"] == "learning pays"
    assert found["knowing"] == "opt-ts"
    assert float(found["to_knowing"].split()[0]) == pytest.approx(1.8 / 1.6, abs=0.02)


@pytest.mark.parametrize(("level", "verdict"), [(0.5, "the rule is better"), (0.85, "learning pays")])
def test_the_bar_is_the_best_tuned_rule(level, verdict):
    data = ExperimentData(with_tuned(level))
    assert (data.tuned, "priced-greedy (tuned)" in data.rules) == (["priced-greedy (tuned)"], False)
    found = worth_learning(data, ("demo", None))
    assert found is not None
    assert (found["rule"], found["verdict"]) == ("priced-greedy (tuned)", verdict)
    # Seed by seed and episode by episode: the luck that all share is gone.
    mean, half = (float(part) for part in found["difference"].split(" ± "))
    assert mean == pytest.approx(0.8 - level, abs=0.03)
    assert half < 0.05


def test_a_tuned_rule_has_its_row_its_budget_and_what_it_knows_in_every_table(tmp_path):
    axis = {"label": "N", "field": "scenario.tasks_per_slot.high", "values": [4, 8]}
    one, many = with_tuned(0.7), with_tuned(0.7, made_up(["final"], scenarios=("demo", "stable")))
    over = with_tuned(0.7, made_up(["axis"], axis=axis))
    for name, raw in (("one", one), ("many", many), ("over", over)):
        raw["experiment"]["name"] = raw["experiment"]["title"] = name
    file = tmp_path / "made.md"
    write_report("T", "A.", [ExperimentData(raw) for raw in (one, many, over)], [], file, tmp_path / "made")
    text = file.read_text()
    assert "No tuned rule stands" not in text
    budget = (
        f"`priced-greedy (tuned)`: 3 trials {TIMES} 1 training episodes {TIMES} 13 requests, and at most 6 episodes in "
        "the final round: 100 requests for each seed, no more than the 12 episodes of a training"
    )
    for section in text.split("\n## ")[1:]:
        assert budget in section
        tables = [part for part in section.split("\n\n") if part.startswith("| ")]
        assert any("what it needs" in part for part in tables)
        with_rules = [part for part in tables if "least-delay" in part]
        assert all("`priced-greedy (tuned)`" in part for part in with_rules)
        assert len(with_rules) >= 2
    assert f"| 3 {TIMES} 1 + 4 |" in text
    (tables,) = tables_json(ExperimentData(one))["places"]
    assert tables["policies"]["priced-greedy (tuned)"]["tuning"][1]["played"] == 9
    assert tables["policies"]["priced-greedy (tuned)"]["ratio"]["high"] < 1
    assert set(marl_eval(one)["offloading"]["demo"]["priced-greedy (tuned)"]) == {f"seed_{seed}" for seed in SEEDS}


def test_a_report_of_data_without_a_tuned_rule_says_so(tmp_path):
    other = with_tuned(0.7)
    other["experiment"]["name"] = "tuned"
    file = tmp_path / "made.md"
    write_report("T", "A.", [ExperimentData(made_up()), ExperimentData(other)], [], file, tmp_path / "made")
    assert "**No tuned rule stands beside the learned policies** of made: " in file.read_text()


def test_the_report_is_made_of_data_and_made_again_of_it(tmp_path):
    save_data(made_up(), tmp_path / "made" / "data")
    file = tmp_path / "made.md"

    def report() -> list[str]:
        experiments = read_data(tmp_path / "made" / "data", ["made", "other"])
        return write_report("Title", "About.", experiments, ["other"], file, tmp_path / "made")

    assert len(report()) == len(ALL_FIGURES)
    text = file.read_text()
    for expected in (
        "# Title",
        "## Made up",
        "**Good**",
        "`least-delay`",
        "because not run: other",
        "`parent`",
        "c0de",
    ):
        assert expected in text
    for link in re.findall(r"\]\((made/[^)]*)\)", text):
        assert (tmp_path / link).is_file()
    before = file.stat().st_mtime_ns
    assert report() == []
    assert file.stat().st_mtime_ns == before
    file.unlink()
    assert report() == []
    assert file.read_text() == text


def test_saved_data_is_left_alone_if_nothing_changed(tmp_path):
    path = save_data(made_up(), tmp_path)
    before = path.stat().st_mtime_ns
    save_data(made_up(), tmp_path)
    assert path.stat().st_mtime_ns == before
    save_data(made_up(shift=1.0), tmp_path)
    assert path.stat().st_mtime_ns != before
    assert write_if_changed(tmp_path / "nan.json", {"ends": [float("nan"), 1.5]})
    assert not write_if_changed(tmp_path / "nan.json", {"ends": [float("nan"), 1.5]})
    assert json.loads((tmp_path / "nan.json").read_text()) == {"ends": [None, 1.5]}
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match="can not be read"):
        read_data(tmp_path, ["made"])


def test_layout_of_marl_eval():
    raw = made_up()
    runs = marl_eval(raw)["offloading"]["demo"]
    assert set(runs) == {"good", "slow", "like", "capacity-weighted", "least-delay", "opt-ts"}
    assert set(runs["good"]) == {"seed_0", "seed_1", "seed_2", "seed_3", "seed_4"}
    one = runs["good"]["seed_2"]
    assert one["step_0"]["mean_delay_s"] == raw["cells"][0]["curves"][2][:10]
    assert one["step_1"] == {
        "step_count": 12,
        "mean_delay_s": raw["cells"][0]["curves"][2][10:],
        "mean_reward": [-value for value in raw["cells"][0]["curves"][2][10:]],
    }
    assert one["absolute_metrics"]["mean_delay_s"] == raw["cells"][0]["evaluation"]["sampled"]["mean_delay_s"][2]
    assert set(runs["opt-ts"]) == {"seed_1000"}
    json.dumps(runs)


def test_tables_are_there_for_machines():
    tables = tables_json(ExperimentData(made_up(published={"source": "x", "claims": CLAIMS[:1]})))
    (place,) = tables["places"]
    good = place["policies"]["good"]
    assert good["difference"]["high"] < 0
    assert good["ratio"]["estimate"] < 1
    assert place["policies"]["capacity-weighted"]["difference"]["estimate"] == 0
    assert tables["verdicts"][0]["verdict"] == "holds"
    json.dumps(tables)


def test_methods_are_compared_with_a_baseline_seed_by_seed(tmp_path):
    raw = made_up(["final"], baseline="like")
    good, like = (
        np.array(found["evaluation"]["sampled"]["mean_delay_s"])
        for name in ("good", "like")
        for found in raw["cells"]
        if found["label"] == name
    )
    data = ExperimentData(raw)
    (place,) = tables_json(data)["places"]
    to_baseline = {name: found.get("to_baseline") for name, found in place["policies"].items()}
    assert to_baseline["good"]["estimate"] == pytest.approx((good - like).mean())
    assert to_baseline["good"]["low"] < 0 < to_baseline["good"]["high"]
    assert to_baseline["slow"]["low"] > 0.6
    assert to_baseline["like"]["estimate"] == to_baseline["like"]["high"] == 0
    assert to_baseline["opt-ts"] is None
    write_report("Title", "", [data], [], tmp_path / "made.md", tmp_path / "made")
    text = (tmp_path / "made.md").read_text()
    assert "Against Like (" in text
    seeds = ", ".join(f"{mean:.2f}" for mean in good.mean(axis=1))
    assert f"| Good | {(good - like).mean():+.2f} ± " in text
    assert f" | {seeds} |" in text
    assert text.index("| Slow |") < text.index("| Good |")
    assert "Against" not in "".join(baseline_tables(ExperimentData(made_up(["final"]))))


def test_the_head_says_what_was_run_on_which_machine(tmp_path):
    one, other = made_up(["final"]), made_up(["final"])
    other["experiment"]["name"] = "more"

    def head():
        file = tmp_path / "made.md"
        write_report("Title", "About.", [ExperimentData(one), ExperimentData(other)], [], file, tmp_path / "made")
        return file.read_text()

    assert "processor hours, on P, 2 cores, S, Python 3, torch 2, Ray 2; edgegen 1" in head()
    other["provenance"]["machine"] = {**one["provenance"]["machine"], "processor": "Q"}
    assert (
        "on P, 2 cores, S, Python 3, torch 2, Ray 2 (made); on Q, 2 cores, S, Python 3, torch 2, Ray 2 (more); "
        in head()
    )
