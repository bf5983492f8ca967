# SPDX-License-Identifier: Apache-2.0
"""Tables as LaTeX and Markdown: every character is shown as it is."""

from pathlib import Path

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.platform.files import check_plot_path, check_table_path, plot_files
from edgegen.platform.sheet import Column, Sheet, escaped

SHEET = Sheet(
    "a_b: 100 %",
    "± is an interval.",
    [Column("policy"), Column("delay, s", number=True)],
    [["my_rule & co", "-0.5 ± 0.1"], ["cost|plus", "1"]],
    marked=1,
)


def test_latex_has_booktabs_and_shows_what_is_special() -> None:
    assert SHEET.to_latex("tab:mine") == (
        "\\begin{table}\n"
        "  \\centering\n"
        "  \\caption{a\\_b: 100 \\%. $\\pm$ is an interval.}\n"
        "  \\label{tab:mine}\n"
        "  \\begin{tabular}{lr}\n"
        "    \\toprule\n"
        "    policy & delay, s \\\\\n"
        "    \\midrule\n"
        "    my\\_rule \\& co & $-$0.5 $\\pm$ 0.1 \\\\\n"
        "    \\textbf{cost|plus} & \\textbf{1} \\\\\n"
        "    \\bottomrule\n"
        "  \\end{tabular}\n"
        "\\end{table}\n"
    )


def test_markdown_keeps_cells_apart() -> None:
    assert SHEET.to_markdown() == (
        "**a_b: 100 %**\n\n| policy | delay, s |\n|---|---:|\n| my_rule & co | -0.5 ± 0.1 |\n| cost\\|plus | 1 |\n\n"
        "± is an interval.\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fleet-8:scarce", "fleet-8:scarce"),
        ("-3", "$-$3"),
        ("~/a^b\\c", r"\textasciitilde{}/a\textasciicircum{}b\textbackslash{}c"),
        ("{x} #1 $2 <3>", r"\{x\} \#1 \$2 \textless{}3\textgreater{}"),
    ],
)
def test_special_characters(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_files_are_told_apart_by_their_endings(tmp_path: Path) -> None:
    assert plot_files(Path("a.png")) == plot_files(Path("a.svg")) == (Path("a.png"), Path("a.svg"))
    assert plot_files(check_plot_path(tmp_path / "a.pdf")) == (tmp_path / "a.pdf",)
    with pytest.raises(InputError, match=r"Table file '.*a.xlsx' must end in \.csv, \.tex or \.md\.$"):
        check_table_path(tmp_path / "a.xlsx")
    with pytest.raises(
        InputError, match=r"must end in \.png or \.svg, of which the other one is written beside it, or in"
    ):
        check_plot_path(tmp_path / "a.gif")
