# SPDX-License-Identifier: Apache-2.0
"""What commands write to: consoles and tables that show every text as it is, whatever the terminal, pipe or disk.

Names, paths and prompts come from people and other programs. Nothing here reads markup in them; styles are objects.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 160
_PLAIN_HEIGHT = 25
_NARROWEST, _WIDEST = 40, 1000
"""What ``COLUMNS`` may say; anything else is no width of a screen, and is ignored."""
_SUBSTITUTES = {
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
}
"""What is written for characters that an encoding does not have; others lose their accents, or become ``?``."""
_HANDLER = "edgegen.substitute"
_LOST = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class PlainTable(Table):
    """A table that shows all texts of its title and its cells as they are; headings are the program's own.

    Args:
        title: Above it.
        caption: Below it.
        options: As for rich's table.
    """

    def __init__(self, title: str, caption: str | None = None, **options: Any) -> None:
        super().__init__(
            title=Text(printable(title), style="table.title"),
            caption=None if caption is None else Text(printable(caption), style="table.caption"),
            title_justify="left",
            caption_justify="left",
            **{"box": SIMPLE_HEAD, **options},
        )

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row."""
        super().add_row(*(None if cell is None else _as_text(cell) for cell in cells), **options)


class _PlainConsole(Console):
    """A console that reads no markup, and is as wide as what it writes to."""

    def __init__(self, stream: TextIO | None, keeps_going: bool) -> None:
        stream = getattr(stream, "rich_proxied_file", stream)
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        is_screen = _is_screen(stream)
        width = _stated_width() or (None if is_screen else _PLAIN_WIDTH)
        super().__init__(
            file=cast("TextIO", _Secondary(stream) if keeps_going or stream is None else stream),
            width=width,
            # With a width alone, rich takes a pipe for a dumb screen of 80 columns where colours are forced.
            height=None if is_screen else _PLAIN_HEIGHT,
            markup=False,
            emoji=False,
            highlight=False,
            force_interactive=None if is_screen else False,
            _environ=environ,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a text into what is shown of it."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Let whoever runs the command decide; rich would end the process from here."""
        raise  # what rich is handling while it calls this


class _Secondary:
    """A stream whose loss does not matter: progress and notes, which must not end the work they tell of."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or drop it if it can not be written."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether a person sees it at once."""
        return _is_screen(self._stream)

    @property
    def encoding(self) -> str:
        """How characters become bytes."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """The number of the open file."""
        if self._stream is None:
            raise OSError("there is no open file")
        return self._stream.fileno()

    def _try(self, what: str, *arguments: str) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, what)(*arguments)
        except (OSError, ValueError):  # the latter if it was closed
            drop(self._stream)
            self._stream = None


def console() -> Console:
    """Return the console for results, on stdout. Piped tables keep a width that spares them line breaks."""
    return _PlainConsole(sys.stdout, keeps_going=False)


def progress_console() -> Console:
    """Return the console for progress and notes, on stderr, so that stdout holds nothing but results.

    Where they can not be written, they are dropped, and the command goes on.
    """
    return _PlainConsole(sys.stderr, keeps_going=True)


@contextmanager
def activity(shown_on: Console, text: str = "", refresh_per_second: float = 12.5) -> Iterator[Callable[[str], None]]:
    """Show what goes on for the length of a block; yields what to call when that changes.

    Args:
        shown_on: Where to.
        text: What goes on at first.
        refresh_per_second: Steps of the animation.
    """
    spinner = "line" if shown_on.options.ascii_only else "dots"
    with shown_on.status(
        Text(printable(text)), spinner=spinner, refresh_per_second=refresh_per_second
    ) as status:  # a plain text would be read as markup
        yield lambda now: status.update(Text(printable(now)))


def printable(text: str) -> str:
    """Return a text with control characters and broken ones written out; lines and tabs stay."""
    return "".join(
        letter if unicodedata.category(letter) not in ("Cc", "Cs") or letter in "\n\t" else ascii(letter)[1:-1]
        for letter in text
    )


def substitute_characters() -> None:
    """Let stdout and stderr write a substitute for what their encoding does not have."""
    codecs.register_error(_HANDLER, _substitute)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        # Once is enough; and it asks where in its file a stream is, which one that has become a pipe can not tell.
        if reconfigure is not None and stream.errors != _HANDLER:
            reconfigure(errors=_HANDLER)


def _substitute(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    if "\udc80" <= letter <= "\udcff":  # a byte of a file's name that is no text: as it was
        return bytes([ord(letter) - 0xDC00]), error.start + 1
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return _SUBSTITUTES.get(letter) or plain or "?", error.start + 1


def stdout_is_lost(error: OSError) -> bool:
    """Whether an error means that stdout can not be written any more: a closed pipe, a full disk.

    Only another try tells: what failed to be written may be gone from the buffers, and errors do not name their file.
    """
    if error.errno not in _LOST or sys.stdout is None:
        return False
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    except ValueError:  # closed
        return False
    return False


def drop(stream: TextIO | None) -> None:
    """Send all that is still to be written to a stream nowhere, so that it fails no more."""
    try:
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    except (OSError, ValueError):  # not a file of the operating system
        return


def _as_text(cell: RenderableType) -> RenderableType:
    return Text(printable(cell)) if isinstance(cell, str) else cell


def _is_screen(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _stated_width() -> int | None:
    """What ``COLUMNS`` says, if that can be the width of a screen."""
    text = os.environ.get("COLUMNS", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return min(int(text), _WIDEST) if int(text) >= _NARROWEST else None
