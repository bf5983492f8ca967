# SPDX-License-Identifier: Apache-2.0
"""The command line: ``edgegen COMMAND``.

Commands live in :mod:`edgegen.platform.commands` and import what is heavy when they run, so that help is instant and
a core installation works without the libraries of the live service.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from edgegen.algorithms.stop_signals import stopping_as_ctrl_c
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import reason_of
from edgegen.platform.commands import (
    bench,
    chaos,
    compare,
    demo,
    k8s,
    keys,
    live,
    loadtest,
    play,
    profile,
    replay,
    reproduce,
    scaling,
    sweep,
    trace,
    track,
    train,
    tune,
    world,
)
from edgegen.platform.process import leave
from edgegen.platform.screen import drop, printable, stdout_is_lost, substitute_characters

# The class of all usage errors; not importable by name, because typer has moved it between packages.
_UsageError: Any = typer.BadParameter.__mro__[1]

EXIT_OUTPUT = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


class _Command(TyperCommand):
    """A command whose help names the methods that there are, those of plugins included, for its argument ALGORITHM."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from edgegen.algorithms.methods.known import METHODS

        for parameter in self.params:
            if parameter.name == "algorithm":
                parameter.help = f"{' or '.join(METHODS.names())}."  # type: ignore[attr-defined]  # arguments have one
        super().format_help(ctx, formatter)


class _OneSentenceGroup(TyperGroup):
    """Turns whatever a person got wrong into one sentence on stderr; faults of the program keep their traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> NoReturn:
        """Run a command line and exit: 0 done, 1 the output is lost, 2 wrong input, 130 interrupted."""
        options["standalone_mode"] = False  # errors arrive here instead of being printed with usage and boxes
        substitute_characters()
        try:
            with stopping_as_ctrl_c():
                code = super().main(args, *rest, **options)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a failure can still be told
        except InputError as error:
            _fail(str(error), EXIT_INPUT)
        except _UsageError as error:
            _fail(_sentence(error.format_message()), EXIT_INPUT)
        except (KeyboardInterrupt, typer.Abort):
            _fail("Interrupted.", EXIT_INTERRUPTED)
        except OSError as error:
            if not stdout_is_lost(error):
                raise
            if isinstance(error, BrokenPipeError):  # whoever read it has seen enough
                _fail("", EXIT_OUTPUT)
            _fail(f"The output can not be written: {reason_of(error)}.", EXIT_OUTPUT)
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command: two words of which the second is no file name are one."""
        if args[:2] == ["sweep", "status"]:
            args = ["sweep-status", *args[2:]]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # a class of typer's that has moved as well
        """Run a command. Pipes to other processes that break are faults; the base class ends in silence for any."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if stdout_is_lost(error):
                raise
            raise RuntimeError("a pipe to another process broke") from error


def _fail(message: str, code: int) -> NoReturn:
    """End with a sentence on stderr, as far as that can be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        drop(sys.stdout)  # else Python would try again at its end, and complain
    try:
        if message:
            typer.echo(printable(message), err=True)
    except (OSError, ValueError):
        drop(sys.stderr)
    sys.exit(code)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


app = typer.Typer(
    cls=_OneSentenceGroup,
    help="Multi-agent reinforcement learning that schedules generative image models on unequal edge servers.",
    epilog="Start with: edgegen scenarios, edgegen compare, edgegen train, and edgegen demo (needs edgegen[serve], "
    "or --no-serve).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from edgegen import __version__

        typer.echo(f"edgegen {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _command in (
    world.scenarios,
    train.train,
    tune.tune,
    sweep.sweep,
    sweep.sweep_status,
    compare.evaluate,
    compare.compare,
    play.play,
    replay.replay,
    reproduce.reproduce,
    bench.bench,
    scaling.scaling,
    chaos.chaos,
    profile.profile,
    live.serve,
    live.generate,
    loadtest.loadtest,
    demo.demo,
):
    app.command(cls=_Command)(_command)
app.add_typer(trace.trace, name="trace")
app.add_typer(keys.keys, name="keys")
app.add_typer(k8s.k8s, name="k8s")
app.add_typer(track.track, name="track")


def main() -> NoReturn:
    """Entry point of the ``edgegen`` command."""
    try:
        app()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 0)
    leave(0)


if __name__ == "__main__":
    main()
