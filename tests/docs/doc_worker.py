# SPDX-License-Identifier: Apache-2.0
"""A process that runs `edgegen` commands and Python files for others, one after the other, with one Ray session.

Importing Ray and opening a session takes longer than most commands of the pages. The pages' commands go through bash
as they are written; an `edgegen` in front on the PATH hands its words, folder, environment and open files to this
process and ends with the exit code that comes back.

A command is parsed as written. Then `shorten` lowers its numbers, see doc_rules.py.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
import traceback
from pathlib import Path
from types import MethodType
from typing import Any

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    words = json.dumps([{kind!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(line, [len(words).to_bytes(4, "big")], [0, 1, 2])
    line.sendall(words)
    sys.exit(int(line.recv(16) or b"70"))
"""


def write_client(file: Path, address: Path, kind: str) -> None:
    """Write a program that hands its command line to the worker at an address."""
    file.write_text(CLIENT.format(python=sys.executable, address=str(address), kind=kind))
    file.chmod(0o755)


def main(address: str) -> None:
    """Serve until standard input ends."""
    import ray
    import typer

    from edgegen.platform.cli import app
    from edgegen.platform.screen import substitute_characters

    substitute_characters()  # before these streams become those of others
    # Two CPUs whatever the machine has, so that a sweep's trials run the same everywhere.
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 1024**2,
    )
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        command.invoke = MethodType(_shortened(name, type(command).invoke), command)
    kinds = {"edgegen": lambda words: _edgegen(group, words), "python": _python}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            line, _ = listener.accept()
            with line:
                _answer(line, kinds)


def _answer(line: socket.socket, kinds: dict[str, Any]) -> None:
    head, files, _, _ = socket.recv_fds(line, 4, 3)
    if not head:  # the one who started this process says that all is done
        sys.exit(0)
    size, data = int.from_bytes(head, "big"), b""
    while len(data) < size:
        data += line.recv(size - len(data))
    kind, words, folder, environment = json.loads(data)
    kept = [os.dup(number) for number in (0, 1, 2)]
    before = (Path.cwd(), dict(os.environ))
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.update(environment)
        code = kinds[kind](words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, file in enumerate(kept):
            os.dup2(file, number)
            os.close(file)
        os.chdir(before[0])
        os.environ.clear()
        os.environ.update(before[1])
        _unplug()
    line.sendall(str(code).encode())


def _unplug() -> None:
    """Forget the plugins that a command named; in a process of their own they would be gone as well."""
    from edgegen.algorithms.core import rulebook
    from edgegen.envs.core import objectives, plugins

    for reference, name in plugins._names.items():
        sys.modules.pop(Path(reference.rpartition(":")[0]).stem, None)
        for term in [known for known in objectives.TERMS.entries if known.partition(":")[2] == name]:
            del objectives.TERMS.entries[term]
    for kept in (plugins._names, plugins._done, rulebook._ADDED):
        kept.clear()


def _edgegen(group: Any, words: list[str]) -> int:
    group.main(words, prog_name="edgegen")
    return 0


def _python(words: list[str]) -> int:
    runpy.run_path(words[0], run_name="__main__")
    return 0


def _shortened(name: str, invoke: Any) -> Any:
    from tests.docs.doc_rules import shorten

    def run(command: Any, context: Any) -> Any:
        with shorten(name, context.params):
            return invoke(command, context)

    return run


if __name__ == "__main__":
    main(sys.argv[1])
