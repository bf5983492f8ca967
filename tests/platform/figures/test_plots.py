# SPDX-License-Identifier: Apache-2.0
import pytest

from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.figures.plots import plot_comparison, plot_training
from edgegen.platform.files import check_plot_path
from edgegen.platform.runs.comparison import compare

PNG = b"\x89PNG"


def test_comparison_is_drawn_as_png_and_svg(tmp_path):
    names = ("capacity-weighted", "opt-ts", "local")
    comparison = compare(load_scenario("demo", {"slots": 5}), {name: make_rule(name) for name in names}, 4, seed=0)
    png, svg = plot_comparison(comparison, tmp_path / "new" / "delays.svg")
    assert png.read_bytes().startswith(PNG)
    assert svg.read_text().count("</svg>") == 1


@pytest.mark.parametrize("episodes", [1, 2])
def test_a_single_policy_and_a_single_episode_can_be_drawn(tmp_path, episodes):
    policies = {"capacity-weighted": make_rule("capacity-weighted")}
    plot_comparison(compare(load_scenario("demo", {"slots": 2}), policies, episodes, 0), tmp_path / "one.png")


def test_learning_curve_is_drawn_however_short(tmp_path):
    for episodes in (0, 1, 9, 30):
        png, _ = plot_training([1.0] * episodes, tmp_path / f"{episodes}.png", "title")
        assert png.read_bytes().startswith(PNG)


def test_other_kinds_of_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        check_plot_path(tmp_path / "delays.jpg")


def test_an_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can not be written"):
        plot_training([1.0], tmp_path / "file" / "curve.png", "title")
