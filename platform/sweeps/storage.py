# SPDX-License-Identifier: Apache-2.0
"""An object store that trials of a sweep keep their checkpoints in, by a URI of pyarrow: ``s3://…``, ``gs://…``."""

from __future__ import annotations

import json
import os
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.urls import shown

SCHEMES = ("s3", "gs", "abfs", "hdfs", "file")
_TRY = ".edgegen-write-test"


class ObjectStore:
    """A folder in an object store.

    Args:
        uri: Where it is, with the options that pyarrow knows, such as
            ``s3://bucket/sweeps?endpoint_override=minio:9000&scheme=http``. Credentials are where the store's own tools
            look for them.

    Raises:
        InputError: If the URI names no kind of store that is known, holds a password, or its library is missing.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme not in SCHEMES or not (parts.netloc or parts.scheme == "file"):
            raise InputError(
                f"Storage '{shown(uri)}' must be a URI of an object store, such as s3://BUCKET/FOLDER; it can "
                f"begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)}."
            )
        if parts.password is not None:
            raise InputError(
                f"Storage '{shown(uri)}' holds a password, which would be written to files; give it in the environment."
            )
        from pyarrow import fs

        try:
            self._files, self._root = fs.FileSystem.from_uri(uri)
        except (OSError, ValueError, NotImplementedError) as error:  # no library, or options that nobody knows
            raise InputError(f"Storage '{shown(uri)}' can not be used: {first_line(error)}.") from None
        self._directory = fs.FileType.Directory
        self._selector = fs.FileSelector
        self._copy = fs.copy_files

    def within(self, name: str) -> str:
        """Return the URI of something in the folder."""
        parts = urllib.parse.urlsplit(self.uri)
        return urllib.parse.urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    def check(self) -> None:
        """Write something, and remove it.

        Raises:
            InputError: If that is not possible.
        """
        path = self._at(_TRY)
        try:
            self._files.create_dir(self._root, recursive=True)
            with self._files.open_output_stream(path) as file:
                file.write(b"edgegen")
            self._files.delete_file(path)
        except OSError as error:  # no such bucket, no credentials, nobody there
            reason = first_line(error).rstrip(".")
            raise InputError(f"Storage '{shown(self.uri)}' can not be written: {reason}.") from None

    def write_json(self, name: str, data: Any) -> None:
        """Write plain values."""
        with self._files.open_output_stream(self._at(name)) as file:
            file.write(json.dumps(data).encode())

    def read_json(self, name: str) -> Any:
        """Read plain values."""
        with self._files.open_input_file(self._at(name)) as file:
            return json.loads(file.readall())

    def sizes(self, name: str) -> dict[str, int]:
        """Sizes of the files below a folder by their relative names; none if there is no such folder."""
        base = self._at(name)
        found = self._files.get_file_info(self._selector(base, recursive=True, allow_not_found=True))
        return {os.path.relpath(info.path, base): info.size for info in found if info.is_file}

    def download(self, name: str, target: Path) -> None:
        """Copy a file, or a folder with all that is in it, to this machine."""
        source = self._at(name)
        if self._files.get_file_info(source).type == self._directory:
            target.mkdir(parents=True, exist_ok=True)
        self._copy(source, str(target), source_filesystem=self._files)

    def replace_files(self, source: Path, name: str, old: str) -> None:
        """Let a folder hold the files of another one here, and no files whose names contain a text beside them."""
        base = self._at(name)
        self._files.create_dir(base, recursive=True)
        for info in self._files.get_file_info(self._selector(base)):
            if info.is_file and old in info.base_name:
                self._files.delete_file(info.path)
        for path in source.iterdir():
            if path.is_file():
                self._copy(str(path), f"{base}/{path.name}", destination_filesystem=self._files)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """A copy of a folder on this machine, for the length of a block."""
        with tempfile.TemporaryDirectory() as here:
            self.download(name, Path(here))
            yield Path(here)

    def relative(self, path: str) -> str:
        """Name in the folder of a path that pyarrow, and so Tune, knows something by."""
        return os.path.relpath(path, self._root)

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def newest_stored(store: ObjectStore, folder: str, state_file: str) -> str | None:
    """Return the complete checkpoint in a trial's folder in a store with the most reports, or None.

    Args:
        store: The store.
        folder: The trial's folder in it.
        state_file: Name of the file in a checkpoint that says what belongs to it.
    """
    files: dict[str, dict[str, int]] = {}
    for name, size in store.sizes(folder).items():
        checkpoint, _, inner = name.partition("/")
        if checkpoint.startswith("checkpoint_"):
            files.setdefault(checkpoint, {})[inner] = size
    found: list[tuple[int, str]] = []
    for checkpoint, sizes in files.items():
        with suppress(OSError, ValueError, KeyError):  # cut off in the middle of being written, or being deleted
            state = store.read_json(f"{folder}/{checkpoint}/{state_file}")
            if all(sizes.get(name) == size for name, size in state["sizes"].items()):
                found.append((len(state["history"]), checkpoint))
    return f"{folder}/{max(found)[1]}" if found else None
