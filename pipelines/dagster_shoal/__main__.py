"""`python -m dagster_shoal up`: the embedded mesh and the Dagster UI of this machine by one command."""

from __future__ import annotations

import argparse
import sys

from dagster_shoal.local.home import LaunchError
from dagster_shoal.local.launch import Launch, Options
from shoal.statedir import state_dir

_EXAMPLE = ("digits", "digits-forest")


def options_of(arguments: list[str] | None) -> Options:
    """Read the command line. Ends the process where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m dagster_shoal", description=__doc__)
    up = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "up", help="start it; Ctrl-C ends it", description="Start mesh and Dagster; Ctrl-C ends what was started."
    )
    up.add_argument("--state-dir", help="where everything is kept [default: SHOAL_STATE_DIR, or one per user]")
    where = "installed, or in the current directory"
    up.add_argument("--module", default=Options.module, help=f"definitions, {where} [default: %(default)s]")
    up.add_argument("--location", help="name of the code location [default: the module's package]")
    up.add_argument("--partition", action="append", metavar="MODEL", help="add a model's partition; may be repeated")
    up.add_argument("--port", type=int, default=Options.port, help="port of the UI, 0 for any [default: %(default)s]")
    up.add_argument("--no-mesh", action="store_true", help="do not start the mesh, which is elsewhere")
    up.add_argument("mesh", nargs="*", metavar="-- OPTION", help="options of `shoal up`, such as --grpc-port 9033")
    given = parser.parse_args(arguments)
    example = given.module == Options.module
    return Options(
        state_dir=state_dir(given.state_dir),
        module=given.module,
        location=given.location or (Options.location if example else given.module.partition(".")[0]),
        partitions=tuple(given.partition or (_EXAMPLE if example else ())),
        port=given.port,
        mesh_arguments=tuple(given.mesh),
        mesh=not given.no_mesh,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run until it is told to end: the exit code."""
    options = options_of(arguments)
    try:
        Launch(options, lambda text: print(text, flush=True)).run()
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
