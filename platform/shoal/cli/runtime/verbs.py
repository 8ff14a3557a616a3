"""`shoal runtime`: custom runtimes, written as subclasses of `mlserver.MLModel`, around MLServer's own commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from shoal.cli.errors import CliError, UsageProblem
from shoal.cli.options import NAMESPACE, Context, Kubeconfig, Namespace, StateDir

DOCKER_ANSWER_SECONDS = 10
_TAG = re.compile(r"[a-z0-9][a-z0-9._/:-]{0,200}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?")
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Folder of the runtime's code.")]

app = typer.Typer(
    help="Custom runtimes: your own model class served by MLServer.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="Name of runtime and model format. Default: the folder's.")] = "",
    template: Annotated[str, typer.Option(help="A cookiecutter template to use instead, by `mlserver init`.")] = "",
) -> None:
    """Write a runtime that works, to be changed to your needs.

    It comes with Shoal, because the templates of `mlserver init` are fetched from the internet by `cookiecutter`; those
    are used if you name one with `--template`. Example: `shoal runtime init my-format`
    """
    if template:
        if shlex.quote(template) != template:
            raise UsageProblem(f"--template {template!r} must be a plain URL or path")
        if shutil.which("cookiecutter") is None:
            raise CliError("--template needs cookiecutter; install it by `pip install cookiecutter`")
        folder.mkdir(parents=True, exist_ok=True)
        _mlserver(["init", "--template", template], folder)
        return
    from shoal.cli.runtime.scaffolding import scaffold

    chosen = name or folder.absolute().name.lower().replace("_", "-")
    for path in scaffold(folder, chosen):
        typer.echo(f"written: {path}")
    typer.echo(f"next: shoal runtime build {folder} --tag {chosen}:latest")


@app.command()
def dockerfile(
    folder: Folder,
    include_dockerignore: Annotated[bool, typer.Option("--include-dockerignore", "-i")] = False,
) -> None:
    """Write a Dockerfile, for building the image without Docker (Kaniko, Buildah).

    It is that of `mlserver dockerfile` with the environment ModelMesh expects. Example: `shoal runtime dockerfile .`
    """
    from shoal.cli.runtime.local_images import CONVENTIONS

    _check_folder(folder)
    _mlserver(["dockerfile", *(["--include-dockerignore"] if include_dockerignore else []), "."], folder)
    file = folder / "Dockerfile"
    lines = [f"ENV {name}={value}\n" for name, value in CONVENTIONS.items()]
    file.write_text(file.read_text().rstrip("\n") + "\n\n# What a runtime of ModelMesh needs.\n" + "".join(lines))
    typer.echo(f"written: {file}")


@app.command()
def build(
    folder: Folder,
    tag: Annotated[str, typer.Option("--tag", "-t", metavar="TAG", help="Name of the image, such as my-format:1.0.")],
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Have Docker build every layer anew.")] = False,
    state_dir: StateDir = None,
    namespace: Namespace = NAMESPACE,
) -> None:
    """Build an image: for the embedded cluster always, and with Docker where an engine answers.

    A ServingRuntime with `image: TAG` then runs in `shoal up`. There the image's name counts, not its tag, and the code
    runs with the packages of Shoal's own environment. Pods that run keep what was built before: see
    `shoal runtime restart`. Example: `shoal runtime build . --tag my-format:1.0`
    """
    from shoal.cli.runtime.local_images import register
    from shoal.cli.runtime.restarting import tell_outdated
    from shoal.cli.session import target
    from shoal.cluster.kubelet.containers import image_name

    _check_folder(folder)
    if not _TAG.fullmatch(tag):
        raise UsageProblem(f"--tag {tag!r} is not the name of an image; use lower-case letters, such as my-format:1.0")
    name = image_name(tag)
    cluster = target(state_dir, namespace)
    register(cluster.layout.images, name, folder)
    typer.echo(f"local image {name}: runs wherever a ServingRuntime of {cluster.layout.root} has image: {tag}")
    tell_outdated(cluster, name)
    if any((folder / file).exists() for file in ("requirements.txt", "environment.yml", "environment.yaml")):
        typer.echo("note: requirements go into Docker images only; the embedded cluster uses Shoal's own packages")
    if not _docker_answers():
        typer.echo("no Docker engine answers: no Docker image was built (see `shoal runtime dockerfile`)")
        return
    _mlserver(["build", ".", "--tag", tag, *(["--no-cache"] if no_cache else [])], folder)
    typer.echo(f"Docker image {tag}: built")


@app.command()
def restart(
    runtime: Annotated[str, typer.Argument(metavar="RUNTIME", help="Name of a ServingRuntime.")],
    state_dir: StateDir = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Replace the pods of a runtime by new ones, each old one once a new one is ready. Models move; requests go on.

    New pods run what `shoal runtime build` built last. Example: `shoal runtime restart my-format`
    """
    from shoal.cli.runtime import restarting
    from shoal.cli.session import target

    restarting.restart(target(state_dir, namespace, kubeconfig, context), runtime)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageProblem(f"{folder} is not a folder; start one by `shoal runtime init {folder}`")


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, timeout=DOCKER_ANSWER_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _mlserver(arguments: list[str], folder: Path) -> None:
    """Run MLServer's command in `folder`. Arguments must be checked: it puts them into a shell's command line."""
    beside = Path(sys.executable).parent / "mlserver"
    program = str(beside) if beside.exists() else shutil.which("mlserver")
    if program is None:
        raise CliError("the mlserver command is missing; install it by `pip install 'shoal[mlserver]'`")
    done = subprocess.run([program, *arguments], cwd=folder, check=False)
    if done.returncode:
        raise CliError(f"`mlserver {arguments[0]}` failed with exit code {done.returncode}; its output is above")
