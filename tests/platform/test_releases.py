# SPDX-License-Identifier: Apache-2.0
"""Releases: files agree about the version, citations are complete, and every version has its website."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.tools.docs_versions import releases, write_index
from tests.tools.release_check import complaints, pythons

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_versions_agree():
    assert complaints(ROOT, unreleased=True) == []


def test_a_release_has_its_date_everywhere(checkout):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changes = checkout / "CHANGELOG.md"
    changes.write_text("# Changelog\n\n## [Unreleased]\n")
    assert complaints(checkout) == [f"CHANGELOG.md has no line '## [{version}] - YYYY-MM-DD'."]
    changes.write_text(f"# Changelog\n\n## [Unreleased]\n\n## [{version}] - 2027-01-02\n")
    citation = checkout / "CITATION.cff"
    text = "\n".join(line for line in citation.read_text().splitlines() if not line.startswith("date-released"))
    citation.write_text(text)
    (found,) = complaints(checkout)
    assert "date-released None, but CHANGELOG.md has 2027-01-02" in found
    citation.write_text(f"{text}\ndate-released: 2027-01-02\n")
    assert complaints(checkout) == []
    citation.write_text(citation.read_text().replace(f"version: {version}", "version: 9.9.9"))
    assert complaints(checkout) == [f"CITATION.cff has version 9.9.9, but pyproject.toml has {version}."]


def test_citations_name_the_methods_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    papers = {reference["url"] for reference in citation["references"]}
    assert papers == {"https://arxiv.org/abs/2412.18212", "https://arxiv.org/abs/2411.01458"}
    assert all(
        set(author) == {"given-names", "family-names"} for r in citation["references"] for author in r["authors"]
    )
    assert citation["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    readme = (ROOT / "README.md").read_text()
    for paper in ("2412.18212", "2411.01458"):
        assert f"eprint       = {{{paper}}}" in readme


def test_this_python_is_supported():
    assert pythons()


def test_versions_are_listed_newest_first(tmp_path):
    assert releases(["v0.9.0", "v0.10.0", "nightly", "v1.0.0rc1", "v0.2.10"]) == ["v0.10.0", "v0.9.0", "v0.2.10"]
    write_index(tmp_path, ["v0.10.0", "v0.9.0"])
    assert json.loads((tmp_path / "versions.json").read_text()) == {
        "newest": "v0.10.0",
        "versions": ["v0.10.0", "v0.9.0", "latest"],
    }
    assert 'url=v0.10.0/"' in (tmp_path / "index.html").read_text()
    write_index(tmp_path, [])
    assert 'url=latest/"' in (tmp_path / "index.html").read_text()
