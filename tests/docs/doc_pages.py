# SPDX-License-Identifier: Apache-2.0
"""The pages, and what is written in them: code blocks, shell commands, inline code, links and headings."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
FIRST = ("README.md", "CONTRIBUTING.md", "docs/index.md", "docs/researcher.md", "docs/operator.md")
FOLDERS = ("docs", "envs", "k8s", "tune_configs", "serve")
SHELLS = ("bash", "sh")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page, relative to the repository.
        line: Line of the fence, from 1.
        language: What the fence says.
        text: What is inside, without the indentation of the fence.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A whole shell command: a line, or as many as it takes.

    Attributes:
        page: The page, relative to the repository.
        line: Its first line.
        text: The command, without the comment behind it.
    """

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages() -> list[str]:
    """All pages, relative to the repository, those that people read first in front."""
    found = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    names = [str(path.relative_to(ROOT)) for path in found]
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


@cache
def tokens(page: str) -> tuple[Token, ...]:
    """The page as Markdown tokens, blocks on the top level, text and links as their children."""
    return tuple(MarkdownIt().enable("table").parse((ROOT / page).read_text(encoding="utf-8")))


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page."""
    return [
        Block(page, token.map[0] + 1, token.info.strip(), token.content)
        for token in tokens(page)
        if token.type == "fence" and token.map
    ]


def inline_code(page: str) -> list[tuple[int, str]]:
    """Line and text of every piece of inline code."""
    return [
        (token.map[0] + 1, child.content)
        for token in tokens(page)
        if token.type == "inline" and token.map
        for child in token.children or ()
        if child.type == "code_inline"
    ]


def links(page: str) -> Iterator[tuple[int, str]]:
    """Line and target of every link and image."""
    for token in tokens(page):
        if token.type == "inline" and token.map:
            for child in token.children or ():
                target = child.attrGet("href") or child.attrGet("src")
                if target:
                    yield token.map[0] + 1, str(target)


def anchors(page: str) -> set[str]:
    """Anchors of the headings, made as GitHub makes them."""
    found: dict[str, int] = {}
    whole = tokens(page)
    for opening, token in pairwise(whole):
        if opening.type == "heading_open":
            text = "".join(child.content for child in token.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
    return {slug if n == 0 else f"{slug}-{n}" for slug, count in found.items() for n in range(count + 1)}


def commands(block: Block) -> list[Command]:
    """Divide a shell block into whole commands; bash itself says where one ends."""
    found, lines = [], []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        lines.append(line)
        text = "\n".join(lines)
        if not _whole(text):
            continue
        bare = _without_comment(text)
        if bare:
            found.append(Command(block.page, number - len(lines) + 1, bare))
        lines = []
    if lines:
        raise AssertionError(f"{block}: bash does not understand: {' / '.join(lines)}")
    return found


def _whole(text: str) -> bool:
    if text.endswith("\\"):
        return False
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "here-document" not in done.stderr


def _without_comment(text: str) -> str:
    """Drop the comment behind a command of one line; a `#` in quotes or inside a word is none."""
    if "\n" in text.strip():
        return text.strip()
    return re.sub(r"(^|\s)#[^'\"]*$", "", text).strip()
