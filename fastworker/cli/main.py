"""The script's entry: runs one command line and turns what went wrong into an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fastworker.cli.exits import INTERRUPTED, OK, describe, exit_code, stop_code, user_error
from fastworker.cli.output import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's exit code.

    A user's mistake, a refusal or an unreachable control plane is one sentence on stderr;
    only a bug of ours shows a traceback.

    Args:
        arguments: without the program's name; None: those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["version"]:  # asked by scripts, so answered before anything heavy is imported
        from fastworker.cli.about import show_version

        return show_version()
    from fastworker.cli.app import app

    try:
        app(given, prog_name="fastworker")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        if (code := stop_code(error)) is not None:
            return code
        found = user_error(error)
        if found is None:
            raise
        say(f"fastworker: {describe(found)}")
        return exit_code(found)
    return OK
