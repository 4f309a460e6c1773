"""The command line. The commands are in `flows/cli/commands/`."""

from __future__ import annotations

import argparse
import errno
import os
import sys

from mathquarry.data.errors import MathQuarryError
from mathquarry.flows.cli.commands import GROUPS


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Errors that a user can fix are printed without a traceback, with exit status 1."""
    options = command_parser().parse_args(arguments)
    # Flush each line, even if the output is a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        options.run(options)
    except MathQuarryError as error:
        print(f"mathquarry: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader, for example `head`, has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        where = error.filename2 or error.filename or "a file"
        print(
            f"mathquarry: {where}: {error.strerror}. Choose a store that you can write to (--store), or get permission.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nmathquarry: stopped. Run the same command again to continue from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands with their arguments."""
    parser = argparse.ArgumentParser(prog="mathquarry", description="From a web crawl to a model that reasons about mathematics.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.register(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
