# SPDX-License-Identifier: Apache-2.0
"""`make docs` builds the website without a warning."""

import re
import subprocess
import sys

import pytest

from tests.docs.doc_pages import ROOT, pages

pytest.importorskip("sphinx")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The website, built with the words of the Makefile into a folder of its own."""
    shown = subprocess.run(["make", "-n", "docs"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    words = next(line for line in shown.splitlines() if "sphinx-build" in line).split()
    assert {"-W", "--keep-going"} < set(words), "a warning has to be an error"
    folder = tmp_path_factory.mktemp("site")
    places = {"build/site": str(folder / "site"), "build/doctrees": str(folder / "doctrees")}
    assert places.keys() < set(words)
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *(places.get(word, word) for word in words[1:])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, f"{built.stdout[-1000:]}\n{built.stderr[-4000:]}"
    return folder / "site"


@pytest.mark.e2e
@pytest.mark.soak
def test_it_has_every_page_and_shows_them_in_the_sidebar(site):
    first = (site / "docs" / "index.html").read_text(encoding="utf-8")
    sidebar = first[first.index('class="sidebar-tree"') : first.index('class="main"')]
    for page in set(pages()) - {"docs/index.md"}:
        file = (site / page).with_suffix(".html")
        assert file.is_file(), page
        link = re.search(rf'href="(?:\.\./|)[^"]*{re.escape(file.stem)}\.html"', sidebar)
        assert link, f"{page} is not in the sidebar"


@pytest.mark.e2e
@pytest.mark.soak
def test_it_draws_pictures_and_lists_commands_and_modules(site):
    assert 'class="mermaid' in (site / "docs" / "architecture.html").read_text(encoding="utf-8")
    assert "edgegen train" in (site / "build" / "reference" / "command-line.html").read_text(encoding="utf-8")
    worlds = (site / "build" / "reference" / "edgegen.envs.offloading.html").read_text(encoding="utf-8")
    assert "edgegen.envs.offloading.world.OffloadingWorld" in worlds
    assert "docs/index.html" in (site / "index.html").read_text(encoding="utf-8")
