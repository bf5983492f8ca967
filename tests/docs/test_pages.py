# SPDX-License-Identifier: Apache-2.0
"""What the pages say exists: links, files, modules, commands, options, presets; and what exists is on a page."""

import ast
import importlib
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from edgegen.algorithms.methods.registry import methods
from edgegen.envs.core.scenario_files import shipped_names
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.platform.cli import app
from tests.docs.doc_pages import ROOT, SHELLS, anchors, blocks, commands, inline_code, links, pages

ROOMS = ("envs", "algorithms", "platform", "serve")
GROUP: Any = typer.main.get_command(app)
COMMANDS = GROUP.commands
INNER = [f"{name} {inner}" for name, command in COMMANDS.items() for inner in getattr(command, "commands", {})]
"""Commands of two words."""


def options_of(command):
    """Options of a command, and of those inside it."""
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help"}, *map(options_of, getattr(command, "commands", {}).values()))


OPTIONS = {name: options_of(command) for name, command in COMMANDS.items()}
PRESETS = {preset for method in methods().values() for preset in method.presets}
OF_OTHERS = {"--metrics-export-port", "--num-cpus", "--redis-password", "--resources"}
"""Options of Ray's own programs that pages name without the program in front."""
COMMAND_LINE = r"(?:^|[;|&] *|do +|bin/)edgegen ([a-z][a-z0-9]*)((?:\\\n|[^\n;|&])*)"
GUIDES = [page for page in pages() if not page.startswith(("CHANGELOG", "docs/results/"))]


@cache
def words_of(page):
    """Inline code and the lines of code blocks, each with its line."""
    lines = [
        (block.line + number, line) for block in blocks(page) for number, line in enumerate(block.text.splitlines(), 1)
    ]
    return [*inline_code(page), *lines]


def inside(page, target):
    """Where a relative link leads: a path below the repository, and an anchor."""
    path, _, anchor = target.partition("#")
    return ((ROOT / page).parent / path).resolve() if path else ROOT / page, anchor


def is_relative(target):
    return not re.match(r"[a-z]+:", target)


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page):
    for line, target in links(page):
        if not is_relative(target):
            continue
        file, anchor = inside(page, target)
        assert file.exists(), f"{page}:{line}: there is no {target}"
        assert file.is_relative_to(ROOT), f"{page}:{line}: {target} is outside of the repository"
        if anchor:
            there = anchors(str(file.relative_to(ROOT)))
            assert anchor in there, f"{page}:{line}: no heading '{anchor}' in {target}; there are {sorted(there)}"


def test_every_page_can_be_reached():
    reached, ahead = set(), ["README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            found = (inside(page, target)[0] for _, target in links(page) if is_relative(target))
            ahead += [str(file.relative_to(ROOT)) for file in found if file.suffix == ".md" and file.exists()]
    assert set(pages()) - reached == set()


def test_links_and_headings_are_found(tmp_path, monkeypatch):
    from tests.docs import doc_pages

    text = "# A *new* `x`, [here](a.md#b)!\n\n# Twice\n\n![p](p.png)\n\n```text\n[no](no.md)\n# no\n```\n\n## Twice\n"
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr(doc_pages, "ROOT", tmp_path)
    assert [target for _, target in links("page.md")] == ["a.md#b", "p.png"]
    assert {"twice", "twice-1"} < anchors("page.md")
    assert "no" not in anchors("page.md")


# Rooms


def runs_later(part):
    """Whether a part of a module does not run when the module is imported: functions, and what is for type checkers."""
    if isinstance(part, ast.If):
        return ast.unparse(part.test) == "TYPE_CHECKING"
    return isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)


def imports_of(room):
    """Yield file, line, imported room and whether it is imported with the module, for every import of another room."""
    for path in sorted((ROOT / room).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lazy = {node for part in ast.walk(tree) if runs_later(part) for node in ast.walk(part)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                package, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                if package == "edgegen" and other in ROOMS and other != room:
                    yield path, node.lineno, other, node not in lazy


def picture():
    drawn = next(block.text for block in blocks("docs/architecture.md") if block.language == "mermaid")
    return {(start, end) for start, end in re.findall(r"^\s*(\w+) --> (\w+)\s*$", drawn, re.MULTILINE)}


def test_the_picture_of_the_rooms_shows_the_imports():
    imports = {(room, other) for room in ROOMS for _, _, other, _ in imports_of(room)}
    assert picture() == imports


def test_the_picture_has_no_circle():
    arrows = picture()
    while arrows:
        ends = {end for _, end in arrows}
        kept = {(start, end) for start, end in arrows if start in ends}
        assert kept != arrows, f"{sorted(kept)} is a circle"
        arrows = kept


def test_the_contribution_guide_allows_what_the_picture_shows():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = {room: may for room, may in re.findall(r"^\| `(\w+)/` \|.*\| (.*) \|$", text, re.MULTILINE) if room in ROOMS}
    allowed = {(room, other) for room, may in rows.items() for other in re.findall(r"`(\w+)`", may)}
    assert rows.keys() == set(ROOMS)
    assert picture() - {("platform", "serve")} == allowed, "the guide speaks of platform and serve below its table"


def test_the_service_is_only_started_when_asked_for():
    for path, line, other, early in imports_of("platform"):
        assert other != "serve" or not early, f"{path.relative_to(ROOT)}:{line} imports serve with the module"


# What inline code names


@pytest.mark.parametrize("page", pages())
def test_commands_and_options_in_inline_code_exist(page):
    for line, text in inline_code(page):
        place = f"{page}:{line}: `{text}`"
        if text.startswith("make ") and not text.startswith("make PYTHON"):
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            for target in (word for word in text.split()[1:] if "=" not in word):
                assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{place}: no target {target}"
        try:
            words = shlex.split(text.replace("…", ""))
        except ValueError:  # a piece of some other language
            continue
        known = OF_OTHERS.union(*OPTIONS.values()) | {"--version"}
        if words[:1] == ["edgegen"] and len(words) > 1 and not words[1].startswith("-"):
            if words[1] == "COMMAND":
                continue
            assert words[1] in COMMANDS, f"{place}: there is no such command"
            known = OPTIONS[words[1]]
        elif not text.startswith("--"):
            continue
        for word in words:
            option = word.partition("=")[0]
            if re.fullmatch(r"--?[a-z][\w-]*", option):
                assert option in known, f"{place}: there is no option {option}"


@pytest.mark.parametrize("page", pages())
def test_commands_and_options_in_blocks_exist(page):
    shell = [block for block in blocks(page) if block.language in SHELLS]
    for command in (command for block in shell for command in commands(block)):
        for name, rest in re.findall(COMMAND_LINE, command.text, re.MULTILINE):
            assert name in COMMANDS, f"{command}: there is no such command"
            for option in re.findall(r"\s(--?[a-z][\w-]*)", rest):
                assert option in OPTIONS[name], f"{command}: there is no option {option}"


@pytest.mark.parametrize("page", GUIDES)
def test_presets_that_are_named_exist(page):
    for line, text in words_of(page):
        for preset in re.findall(r"--preset[ =](?!\$)([\w-]+)", text):
            assert preset in PRESETS, f"{page}:{line}: `{text}`: there is no preset {preset}"


@pytest.mark.parametrize("page", GUIDES)
def test_files_that_inline_code_names_exist(page):
    folders = "|".join((*ROOMS, "tests", "docs", "k8s", "tune_configs", "src"))
    for line, text in inline_code(page):
        if re.fullmatch(rf"(?:{folders})/[\w./-]*", text):
            here = ((ROOT / page).parent / text).exists()
            made_by_reproduce = text.startswith("docs/results/reproduce-")
            assert here or (ROOT / text).exists() or made_by_reproduce, f"{page}:{line}: there is no {text}"


@pytest.mark.parametrize("page", GUIDES)
def test_names_of_the_code_that_inline_code_names_exist(page):
    for line, text in inline_code(page):
        if not re.fullmatch(r"edgegen(\.\w+)+(:\w+)?(?<!\.json)", text):
            continue
        *parts, last = text.replace(":", ".").split(".")
        while parts:
            try:
                thing = importlib.import_module(".".join(parts))
                break
            except ModuleNotFoundError:
                last = f"{parts.pop()}.{last}"
        for name in last.split("."):
            if not hasattr(thing, name) and hasattr(thing, "__path__"):
                thing = importlib.import_module(f"{thing.__name__}.{name}")
                continue
            assert hasattr(thing, name), f"{page}:{line}: there is no {text}"
            thing = getattr(thing, name)


# What exists is on a page


def mentioned(text, found):
    return any(re.search(rf"(?<![\w-]){re.escape(text)}(?![\w-])", words) for words in found)


@pytest.mark.parametrize("name", sorted([*COMMANDS, *INNER]))
def test_every_command_is_on_a_page(name):
    assert any(mentioned(f"edgegen {name}", [text for _, text in words_of(page)]) for page in GUIDES)


@pytest.mark.parametrize(
    ("kind", "page"),
    [("offloading", "docs/simulator.md"), ("provisioning", "docs/t2drl.md"), ("fleet", "docs/simulator.md")],
    ids=str,
)
def test_every_shipped_scenario_is_on_its_page(kind, page):
    shown = [text for _, text in inline_code(page)]
    names = {name.partition(":")[0] for name in shipped_names(kind)}
    assert names
    assert {name for name in names if not mentioned(name, shown)} == set()


def test_every_variant_of_a_scenario_is_on_its_page():
    shown = {text for _, text in inline_code("docs/simulator.md")} | {
        "load70",
        "load80",
        "load90",
    }  # `load60` … `load95`
    variants = {name.partition(":")[2] for kind in ("offloading", "fleet") for name in shipped_names(kind)} - {""}
    assert variants - shown == set()


@pytest.mark.parametrize(
    ("name", "page"), [("ladts", "docs/ladts.md"), ("t2drl", "docs/t2drl.md"), ("fleet", "docs/fleet.md")]
)
def test_every_preset_is_on_its_page(name, page):
    shown = [text for _, text in words_of(page)]
    assert {preset for preset in methods()[name].presets if not mentioned(preset, shown)} == set()


def fields_of(model):
    """Names of all fields of a model and of the models inside it."""
    for name, field in model.model_fields.items():
        yield name
        for part in re.findall(r"\.(\w+)(?=['\],| >]|$)", str(field.annotation)):
            inner = next((thing for thing in MODELS if thing.__name__ == part), None)
            if inner is not None:
                yield from fields_of(inner)


MODELS = [
    thing
    for module in ("offloading.scenario", "offloading.servers", "offloading.traffic", "core.fields")
    for thing in vars(importlib.import_module(f"edgegen.envs.{module}")).values()
    if isinstance(thing, type) and issubclass(thing, BaseModel)
]


def test_every_field_of_an_offloading_scenario_is_on_its_page():
    fields = set(fields_of(OffloadingScenario)) - {"name", "description"}
    assert {"mean_calm_slots", "delay_slots", "per_link", "log"} <= fields  # those of models inside are found
    shown = [text for _, text in inline_code("docs/simulator.md")]
    assert {field for field in fields if not mentioned(field, shown)} == set()


def test_every_rule_is_on_its_page():
    from edgegen.algorithms.core.rulebook import rule_book

    shown = {text for _, text in inline_code("docs/simulator.md")}
    assert {*rule_book("offloading").makers, *rule_book("fleet").makers} - shown == set()


def test_the_pages_are_the_ones_of_the_repository():
    """A folder that is renamed would otherwise leave these tests with nothing to look at."""
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/results/ladts.md", "k8s/README.md"} < set(pages())
    assert all(Path(page).suffix == ".md" for page in pages())
