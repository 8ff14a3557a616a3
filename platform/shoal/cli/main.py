"""The `shoal` command: puts its verbs together and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys

import typer

from shoal.cli.cluster import verbs as lifecycle
from shoal.cli.errors import CliError
from shoal.cli.objects import verbs as objects
from shoal.cli.package.verbs import app as packages
from shoal.cli.pvc.verbs import app as claims
from shoal.cli.rollout.verbs import app as rollouts
from shoal.cli.runtime.verbs import app as runtime
from shoal.cli.traffic import verbs as traffic

app = typer.Typer(
    name="shoal",
    help=(
        "Serve thousands of models from a few shared pods.\n\n"
        "Start: `shoal up --detach`, then `shoal apply -f isvc.yaml`, `shoal wait isvc NAME --for Loaded`, "
        "`shoal infer NAME -f request.json`."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
lifecycle.register(app)
objects.register(app)
traffic.register(app)
app.add_typer(rollouts, name="rollout")
app.add_typer(claims, name="pvc")
app.add_typer(packages, name="package")
app.add_typer(runtime, name="runtime")


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line: its exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="shoal", standalone_mode=False)
    except CliError as error:
        typer.echo(f"error: {error}", err=True)
        return error.code
    except typer.Exit as done:
        return int(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python must not complain when it flushes on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # wrong usage, found by the parser
            error.show()
            return int(error.exit_code)
        if os.environ.get("SHOAL_DEBUG"):
            raise
        typer.echo(f"error: {type(error).__name__}: {error} (SHOAL_DEBUG=1 shows where)", err=True)
        return 1
    return int(code or 0)
