"""Options every command has, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_WHICH = "Which cluster"

StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="SHOAL_STATE_DIR",
        show_envvar=True,
        help="State directory of the embedded cluster. Default: one per user.",
        show_default=False,
        rich_help_panel=_WHICH,
    ),
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Namespace of the objects.", rich_help_panel=_WHICH),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        help="Talk to the cluster of this kubeconfig instead of the embedded one.",
        show_default=False,
        rich_help_panel=_WHICH,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        help="Context of the kubeconfig (without --kubeconfig: of your own one).",
        show_default=False,
        rich_help_panel=_WHICH,
    ),
]
NAMESPACE = "modelmesh-serving"
"""Default of `--namespace`; the same as the embedded cluster's, kept apart so that `--help` imports nothing heavy."""
