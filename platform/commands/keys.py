# SPDX-License-Identifier: Apache-2.0
"""``edgegen keys``: who may ask a service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgegen.platform.commands.live import require_serve_extra
from edgegen.platform.commands.options import JsonOption, console, input_file, output_file, progress_console

if TYPE_CHECKING:
    from edgegen.serve.http.key_file import ApiKey, KeyFile

DEFAULT_FILE = Path("keys.json")
MOST_DAYS = 36_500.0
OWNER_ONLY = 0o600
LOCK_FILE = ".edgegen-keys.lock"

_FILE = {"metavar": "FILE", "parser": str}
NewFileOption = Annotated[
    Path, typer.Option(**_FILE, callback=output_file, help="File with the keys; made if there is none.")
]
FileOption = Annotated[Path, typer.Option(**_FILE, callback=input_file("key", ".json"), help="File with the keys.")]

keys = typer.Typer(help="API keys of a service: who may ask, how much, and for which models.")


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Who gets the key.")],
    file: NewFileOption = DEFAULT_FILE,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Requests in a minute; no limit unless given.")
    ] = None,
    pictures_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Pictures in a minute; no limit unless given.")
    ] = None,
    work_per_minute: Annotated[
        float | None, typer.Option(metavar="GCYCLES", help="Work in a minute, Gcycle; no limit unless given.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share while there is more work than can be done; 1 is usual.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model it may use, repeatable; all unless given.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(metavar="DAYS", help="How long the key counts; for ever unless given.")
    ] = None,
) -> None:
    """Make a key and show it, this once: the file holds only its hash."""
    require_serve_extra("A file with keys", ("pydantic",))
    from edgegen.envs.core.errors import InputError
    from edgegen.serve.http.key_file import KeyFile, new_key

    expires = None
    if days is not None:
        if not 0 < days <= MOST_DAYS:
            raise InputError(f"The option --days is {days:g}, but must be more than 0 and at most {MOST_DAYS:g}.")
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    text, key = new_key(
        name,
        expires=expires,
        requests_per_minute=requests_per_minute,
        pictures_per_minute=pictures_per_minute,
        work_gcycles_per_minute=work_per_minute,
        weight=weight,
        models=tuple(model) if model else None,
    )
    with _changing(file) as change:
        change(lambda known: (known or KeyFile()).with_key(key))
    notes = progress_console()
    notes.print(f"The key of {name}, which can not be shown again:", soft_wrap=True)
    typer.echo(text)
    notes.print(f"Its hash is in {file}; services that have it in their config know it in a second.", soft_wrap=True)


@keys.command("list")
def list_(file: FileOption = DEFAULT_FILE, json: JsonOption = None) -> None:
    """Show who has a key and what it allows."""
    require_serve_extra("A file with keys", ("pydantic",))
    from edgegen.platform.commands.options import write_then_show
    from edgegen.platform.files import write_json
    from edgegen.platform.screen import PlainTable
    from edgegen.serve.http.key_file import read_keys

    known = read_keys(file).keys
    now = datetime.now(UTC)
    table = PlainTable(title=f"{len(known)} keys")
    for column in ("name", "id", "expires", "requests/min", "pictures/min", "work/min, Gcycle", "weight", "models"):
        table.add_column(column)
    for key in known:
        table.add_row(*_row(key, now))
    rows = [{**key.model_dump(mode="json", exclude={"sha256"}), "expired": key.expired(now)} for key in known]
    writes = [] if json is None else [lambda: write_json(json, {"format": "edgegen-key-list-1", "keys": rows})]
    write_then_show(writes, lambda: console().print(table))


@keys.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Whose key counts no more.")], file: FileOption = DEFAULT_FILE
) -> None:
    """Take a key away; services refuse it within a second."""
    require_serve_extra("A file with keys", ("pydantic",))

    with _changing(file) as change:
        change(lambda known: _there(known).without(name))
    progress_console().print(f"The key of {name} is revoked.", soft_wrap=True)


def _row(key: ApiKey, now: datetime) -> list[str]:
    expires = "never" if key.expires is None else f"{key.expires.astimezone(UTC):%Y-%m-%d %H:%M}"
    limits = (key.requests_per_minute, key.pictures_per_minute, key.work_gcycles_per_minute)
    return [
        key.name,
        key.id,
        f"{expires} (expired)" if key.expired(now) else expires,
        *("no limit" if limit is None else f"{limit:g}" for limit in limits),
        "" if key.weight is None else f"{key.weight:g}",
        "all" if key.models is None else ", ".join(key.models),
    ]


def _there(known: KeyFile | None) -> KeyFile:
    assert known is not None  # the option's checker has seen it
    return known


@contextmanager
def _changing(file: Path) -> Iterator[Any]:
    """Yield what changes a file with keys, one command after the other.

    The new file takes the place of the old one whole, and only its owner may read it.
    """
    from filelock import FileLock

    from edgegen.envs.core.errors import InputError
    from edgegen.envs.core.paths import reason_of, replacing
    from edgegen.serve.http.key_file import read_keys

    def change(how: Any) -> None:
        new = how(read_keys(file) if file.exists() else None)
        mode = file.stat().st_mode & 0o777 if file.exists() else OWNER_ONLY
        with replacing(file) as written:
            Path(written.name).chmod(mode)  # before there is anything in it
            written.write(new.text())

    if file.exists() and not file.is_file():
        raise InputError(f"Key file '{file}' is no file that can be read again.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.parent / LOCK_FILE):
            yield change
    except OSError as error:
        raise InputError(f"Key file '{file}' can not be written: {reason_of(error)}.") from None
