# SPDX-License-Identifier: Apache-2.0
"""A table as text: shown in a terminal, and written for papers and pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgegen.platform.screen import PlainTable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--",
    "…": r"\ldots{}",
    "λ": r"$\lambda$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


@dataclass(frozen=True)
class Column:
    """A column of a sheet.

    Attributes:
        heading: Its heading, with the unit.
        number: Whether it holds numbers, which stand at the right.
        wraps: Whether its text may be broken where a terminal is narrow.
    """

    heading: str
    number: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        title: What stands above it.
        caption: What stands below it.
        columns: Its columns.
        rows: Texts, one for each column.
        marked: Index of a row that is set apart, if there is one.
    """

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    marked: int | None = None

    def to_rich(self) -> PlainTable:
        """Return it for a terminal."""
        table = PlainTable(title=self.title, caption=self.caption, pad_edge=False, collapse_padding=True)
        for column in self.columns:
            justify: Literal["left", "right"] = "right" if column.number else "left"
            table.add_column(column.heading, justify=justify, no_wrap=not column.wraps)
        for index, row in enumerate(self.rows):
            table.add_row(*row, style="bold" if index == self.marked else None)
        return table

    def to_markdown(self) -> str:
        """Return it as a table of Markdown, with its title and caption around it."""
        lines = [f"**{self.title}**", ""]
        lines.append(f"| {' | '.join(_piped(column.heading) for column in self.columns)} |")
        lines.append(f"|{'|'.join('---:' if column.number else '---' for column in self.columns)}|")
        lines += [f"| {' | '.join(_piped(text) for text in row)} |" for row in self.rows]
        return "\n".join([*lines, "", self.caption, ""])

    def to_latex(self, label: str = "tab:comparison") -> str:
        r"""Return it as a table of LaTeX; the document has to load the package ``booktabs``.

        Args:
            label: For ``\ref``.
        """
        form = "".join("r" if column.number else "l" for column in self.columns)
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(self.title)}. {escaped(self.caption)}}}",
            rf"  \label{{{label}}}",
            rf"  \begin{{tabular}}{{{form}}}",
            r"    \toprule",
            f"    {_line([escaped(column.heading) for column in self.columns])}",
            r"    \midrule",
        ]
        for index, row in enumerate(self.rows):
            cells = [escaped(text) for text in row]
            if index == self.marked:
                cells = [rf"\textbf{{{cell}}}" if cell else "" for cell in cells]
            lines.append(f"    {_line(cells)}")
        return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Return a text that LaTeX shows as it is."""
    shown = "".join(_SPECIAL.get(character, character) for character in text)
    return re.sub(r"(?<![\w$])-(?=\d)", "$-$", shown)  # a minus, and no hyphen


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _piped(text: str) -> str:
    return text.replace("|", r"\|")
