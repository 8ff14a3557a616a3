"""From a container's spec to a local command: environment, paths, program. Pure, so that every rule is tested.

A pod has no file system of its own here. Each volume is a directory of this machine, and values that start with a
container's mount path are rewritten to it: `MLSERVER_MODELS_DIR=/models/_mlserver` names the same files to every
container of the pod, as on a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shoal.cluster.kubelet.quantity import in_units
from shoal_runtime.servers import servers

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")


@dataclass(frozen=True, slots=True)
class Image:
    """An image built on this machine: what its container runs."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A path as the container sees it, and the directory it is."""

    path: str
    directory: str


@dataclass(frozen=True, slots=True)
class PodContext:
    """What containers of one pod may refer to."""

    pod: Mapping[str, Any]
    """The Pod object."""
    ip: str
    host_ip: str
    directory: str
    """Where containers without a working directory run."""
    base_env: Mapping[str, str]
    find_image: Callable[[str], Image | None]
    """A locally built image by its name without registry and tag."""
    secret: Callable[[str], Mapping[str, str] | None]
    """Decoded values of a Secret, or None if there is none."""
    config_map: Callable[[str], Mapping[str, str] | None]
    fixed_mounts: tuple[Mount, ...] = ()
    """Mounted in every container, whatever its spec says."""


@dataclass(frozen=True, slots=True)
class LocalCommand:
    """A container as a process."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str


PORT_IN_USE = "PortInUse"
"""The reason of a container whose port a program outside holds: waiting alone does not help."""


class CannotStart(Exception):
    """A container cannot be started now; `reason` is the word its waiting state shows."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def local_command(container: Mapping[str, Any], context: PodContext, volumes: Mapping[str, str]) -> LocalCommand:
    """How to run a container. `volumes` maps volume names to directories.

    Raises:
        CannotStart: its image is not here, or it refers to something that does not exist.
    """
    mounts = mounts_of(container, context, volumes)
    image = _image(container, context)
    env = {**context.base_env, **{name: rewrite(value, mounts) for name, value in image.env.items()}}
    env |= environment(container, context, mounts, env)
    arguments = list(container.get("args") or ())
    # As with real images without an entry point: either of `command` and `args` replaces what the image runs.
    command = list(container.get("command") or (() if arguments else image.command))
    argv = tuple(expand(rewrite(part, mounts), env) for part in (*command, *arguments))
    workdir = container.get("workingDir") or image.workdir
    return LocalCommand(argv, env, rewrite(workdir, mounts) if workdir else context.directory)


def _image(container: Mapping[str, Any], context: PodContext) -> Image:
    if container.get("command"):
        return Image(())
    reference = str(container.get("image", ""))
    name = image_name(reference)
    built = context.find_image(name)
    if built is not None:
        return built
    for server in servers().values():
        if name == image_name(server.image):
            return Image(server.command)
    raise CannotStart(
        "ErrImageNeverPull",
        f"image {reference!r} is not on this machine and the embedded cluster cannot pull images: build it with "
        f"`shoal runtime build --tag {name or 'NAME'}`, or set the container's command to a program of this machine",
    )


def image_name(reference: str) -> str:
    """The last part of an image's path, without tag and digest."""
    return reference.split("@", 1)[0].rsplit("/", 1)[-1].split(":", 1)[0]


def mounts_of(container: Mapping[str, Any], context: PodContext, volumes: Mapping[str, str]) -> tuple[Mount, ...]:
    """The container's mounts, longest path first, so that the closest one wins.

    Raises:
        CannotStart: it mounts a volume the pod does not have, or a sub-path that leaves its volume.
    """
    mounts: list[Mount] = []
    for mount in container.get("volumeMounts") or ():
        name, path = str(mount["name"]), str(mount["mountPath"]).rstrip("/")
        if name not in volumes:
            raise CannotStart("CreateContainerConfigError", f"volumeMounts names volume {name!r}, which the pod lacks")
        inner = str(mount.get("subPath") or "").strip("/")
        if ".." in inner.split("/"):
            raise CannotStart("CreateContainerConfigError", f"subPath {inner!r} of {name!r} must not contain '..'")
        mounts.append(Mount(path, f"{volumes[name]}/{inner}" if inner else volumes[name]))
    explicit = {mount.path for mount in mounts}
    mounts += [mount for mount in context.fixed_mounts if mount.path not in explicit]
    return tuple(sorted(mounts, key=lambda mount: -len(mount.path)))


def rewrite(value: str, mounts: Sequence[Mount]) -> str:
    """The value with a leading mount path (also after `--option=`) replaced by the directory mounted there."""
    option, equals, rest = value.partition("=") if value.startswith("-") else ("", "", value)
    for mount in mounts:
        if rest == mount.path or rest.startswith(mount.path + "/"):
            return option + equals + mount.directory + rest[len(mount.path) :]
    return value


def expand(value: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable if it is known; `$$` stands for `$`."""

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return env.get(match[1], match[0])

    return _REFERENCE.sub(replace, value)


def environment(
    container: Mapping[str, Any], context: PodContext, mounts: Sequence[Mount], base: Mapping[str, str]
) -> dict[str, str]:
    """The container's own variables, in order, each able to refer to those before it.

    Raises:
        CannotStart: a variable refers to something that does not exist.
    """
    own: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        own |= _from_source(source, context)
    for entry in container.get("env") or ():
        name = str(entry["name"])
        if entry.get("valueFrom"):
            value = _from_reference(name, entry["valueFrom"], container, context)
            if value is not None:
                own[name] = value
        else:
            literal = rewrite(str(entry.get("value") or ""), mounts)
            own[name] = expand(literal, {**base, **own})
    return own


def _from_source(source: Mapping[str, Any], context: PodContext) -> dict[str, str]:
    prefix = str(source.get("prefix") or "")
    for key, find in (("secretRef", context.secret), ("configMapRef", context.config_map)):
        if key in source:
            reference = source[key]
            values = find(reference["name"])
            if values is None and not reference.get("optional"):
                raise CannotStart("CreateContainerConfigError", f"envFrom: {key} {reference['name']!r} not found")
            return {prefix + name: value for name, value in (values or {}).items()}
    raise CannotStart("CreateContainerConfigError", f"envFrom: use secretRef or configMapRef, not {', '.join(source)}")


def _from_reference(
    name: str, reference: Mapping[str, Any], container: Mapping[str, Any], context: PodContext
) -> str | None:
    if "fieldRef" in reference:
        return _field(name, str(reference["fieldRef"]["fieldPath"]), context)
    if "resourceFieldRef" in reference:
        return _resource(name, reference["resourceFieldRef"], container, context)
    for key, find in (("secretKeyRef", context.secret), ("configMapKeyRef", context.config_map)):
        if key in reference:
            chosen = reference[key]
            value = (find(chosen["name"]) or {}).get(chosen["key"])
            if value is None and not chosen.get("optional"):
                where = f"{key} {chosen['name']!r} with key {chosen['key']!r}"
                raise CannotStart("CreateContainerConfigError", f"env {name}: {where} not found")
            return value
    raise CannotStart("CreateContainerConfigError", f"env {name}: unknown source {', '.join(reference)}")


def _field(name: str, path: str, context: PodContext) -> str:
    metadata = context.pod["metadata"]
    simple = {
        "metadata.name": metadata.get("name"),
        "metadata.namespace": metadata.get("namespace"),
        "metadata.uid": metadata.get("uid"),
        "spec.nodeName": context.pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": context.pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": context.ip,
        "status.podIPs": context.ip,
        "status.hostIP": context.host_ip,
    }
    if path in simple:
        return str(simple[path] or "")
    match = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if match is None:
        raise CannotStart("CreateContainerConfigError", f"env {name}: fieldPath {path!r} is not known")
    return str((metadata.get(match[1]) or {}).get(match[2], ""))


def _resource(name: str, reference: Mapping[str, Any], container: Mapping[str, Any], context: PodContext) -> str:
    wanted = reference.get("containerName") or container.get("name")
    every = (*context.pod["spec"].get("containers", ()), *(context.pod["spec"].get("initContainers") or ()))
    chosen = next((each for each in every if each.get("name") == wanted), None)
    if chosen is None:
        raise CannotStart("CreateContainerConfigError", f"env {name}: the pod has no container {wanted!r}")
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    resources = chosen.get("resources") or {}
    # What is not requested defaults to the limit, what is not limited to the request: there is no node to ask.
    both = (resources.get("requests") or {}, resources.get("limits") or {})
    first, second = both if kind == "requests" else both[::-1]
    quantity = first.get(resource, second.get(resource, "0"))
    try:
        return str(in_units(quantity, reference.get("divisor")))
    except ValueError as error:
        raise CannotStart("CreateContainerConfigError", f"env {name}: {error}") from None
