# SPDX-License-Identifier: Apache-2.0
"""Reference pages: the command line from its own help, the Python code from its docstrings."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROOMS = ("envs", "algorithms", "platform", "serve")


def modules() -> dict[str, list[str]]:
    """Names of all modules by package."""
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            package = ".".join(("edgegen", *path.relative_to(ROOT).parent.parts))
            if path.name != "__init__.py":
                found.setdefault(package, []).append(f"{package}.{path.stem}")
    return found


def write_pages(folder: Path) -> None:
    """Write one page for each package, one for the command line, and their table of contents."""
    folder.mkdir(parents=True, exist_ok=True)
    found = modules()
    pages = {"command-line": _command_line()}
    for package, names in found.items():
        for name in names:
            importlib.import_module(name)  # before autodoc looks: it changes what later imports of pydantic see
        directives = "\n".join(
            f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n```\n"
            for name in names
        )
        pages[package] = f"# {package}\n\n{directives}"
    names = "\n".join(pages)
    pages["index"] = f"# Reference\n\n```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
    for name, text in pages.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for file in folder.glob("*.md"):
        if file.stem not in pages:
            file.unlink()


def _command_line() -> str:
    """The help of every command, as it is printed."""
    import typer

    from edgegen.platform.cli import app

    group = typer.main.get_command(app)
    parts = ["# Command line\n"]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = command.make_context(f"edgegen {name}", [], resilient_parsing=True, max_content_width=110)
        parts.append(f"## edgegen {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def to_restructured_text(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Turn what Markdown there is in a docstring into reStructuredText: headings, tables, and bars in formulas."""
    del app, what, name, thing, options
    made: list[str] = []
    for row in "\n".join(lines).split("\n"):
        if heading := re.fullmatch(r"#+ (.*)", row):
            made += [f".. rubric:: {heading[1]}"]
        elif re.fullmatch(r"\|[-| ]+\|", row):
            continue  # the line below a table's head
        elif row.startswith("| ") and row.endswith("|"):
            if not (made and made[-1].startswith("     - ")):
                made += [".. list-table::", "   :header-rows: 1", ""]
            first, *others = (cell.strip() or r"\ " for cell in row.strip("|").split(" | "))
            made += [f"   * - {_escaped(first)}", *(f"     - {_escaped(cell)}" for cell in others)]
        else:
            made.append(_escaped(row))
    lines[:] = made


def _escaped(text: str) -> str:
    """Escape bars outside of literals: |x| is a magnitude here and no substitution."""
    parts = re.split(r"(``.*?``)", text)
    return "".join(part if part.startswith("``") else re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts)
