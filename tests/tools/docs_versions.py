# SPDX-License-Identifier: Apache-2.0
"""The website of every tagged version, beside that of the working tree: `make docs-versions`.

Each version is built from a worktree of its tag, with the tools of this environment. `index.html` leads to the newest
release, and `versions.json` lists all of them. A version that is there already is not built again.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
LATEST = "latest"
REDIRECT = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={0}/"><a href="{0}/">{0}</a>\n'
)


def releases(tags: Sequence[str]) -> list[str]:
    """Return the tags that are versions, newest first; pre-releases are none."""
    found = [
        (tuple(map(int, match.groups())), tag) for tag in tags if (match := re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", tag))
    ]
    return [tag for _, tag in sorted(found, reverse=True)]


def write_index(out: Path, versions: Sequence[str]) -> None:
    """Write where to go first, and the list of all versions.

    Args:
        out: Folder of the website.
        versions: Releases, newest first.
    """
    names = [*versions, LATEST]
    (out / "index.html").write_text(REDIRECT.format(names[0]), encoding="utf-8")
    (out / "versions.json").write_text(json.dumps({"newest": names[0], "versions": names}) + "\n", encoding="utf-8")


def build(source: Path, target: Path) -> None:
    """Build the website of a checkout."""
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", source / "docs", source, target]
    subprocess.run([str(word) for word in words], check=True, cwd=source)


def _git(*words: object) -> str:
    done = subprocess.run(["git", "-C", ROOT, *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout


def main() -> int:
    """Build what is missing, and the working tree."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "versions").resolve()
    out.mkdir(parents=True, exist_ok=True)
    versions = releases(_git("tag").split())
    for version in versions:
        if (out / version).exists():
            continue
        with tempfile.TemporaryDirectory() as name:
            checkout = Path(name) / version
            _git("worktree", "add", "--detach", checkout, version)
            try:
                build(checkout, Path(name) / "site")
                (Path(name) / "site").rename(out / version)
            finally:
                _git("worktree", "remove", "--force", checkout)
    build(ROOT, out / LATEST)
    write_index(out, versions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
