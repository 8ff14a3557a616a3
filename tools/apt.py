"""Debian packages, fetched and unpacked with what they need and the machine lacks. Only the checkout is written to."""

from __future__ import annotations

import functools
import math
import os
import re
import shlex
import shutil

from tools.places import BIN, DEBIAN, SCRATCH
from tools.running import Unavailable, output, run

_STATE = SCRATCH / "apt"
_ARCHIVES = _STATE / "cache" / "archives"
# The sandbox is a user of apt's own, which may not write into the checkout; changing to it needs root.
_OWN = {
    "Dir::State::Lists": f"{_STATE}/lists",
    "Dir::Cache": f"{_STATE}/cache",
    "Debug::NoLocking": "true",
    "APT::Sandbox::User": "",
}
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{folder}/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{folder}/fonts-cache</cachedir>
</fontconfig>
"""


def there() -> bool:
    """Whether this is a Debian, or a child of it."""
    return shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None


def unpack(package: str) -> None:
    """Fetch and unpack a package, and what it depends on unless that is installed.

    Raises:
        Unavailable: With the reason.
    """
    if not there():
        raise Unavailable(f"it is Debian's package {package}, and there is no apt-get")
    _update()
    install = ["install", "--yes", "--no-install-recommends", package]
    listed = re.findall(r"^'\S+' (\S+) (\d+)", output(_command(*install, "--print-uris")), re.MULTILINE)
    if not listed:
        raise Unavailable(f"the package {package} is installed, but its program is not on PATH")
    megabytes = math.ceil(sum(int(size) for _, size in listed) / 1e6)
    what = f"{package}: {len(listed)} Debian package{'s' if len(listed) > 1 else ''}"
    run(what, _command(*install, "--download-only"), grows=_ARCHIVES, megabytes=megabytes)
    print(f"tools: {package}: unpacking ...", flush=True)
    for name, _ in listed:
        _unpack(name)


def install(package: str) -> None:
    """Install a package into the system.

    Raises:
        Unavailable: The user is not root, or it failed.
    """
    if not there():
        raise Unavailable(f"it is Debian's package {package}, and there is no apt-get")
    if os.geteuid() != 0:
        raise Unavailable(f"only root can install the package {package}")
    _update()
    command = _command("install", "--yes", "--no-install-recommends", package)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(f"{package}: installed into the system", command, env=env, grows=_ARCHIVES, megabytes=0)


def wrap(name: str, program: str) -> None:
    """Put a program on the tools' PATH, with the libraries and fonts that were unpacked.

    Raises:
        Unavailable: It does not start.
    """
    libraries = sorted({str(file.parent) for file in DEBIAN.rglob("lib*.so*")})
    lines = [
        "#!/bin/sh",
        f"export LD_LIBRARY_PATH={shlex.quote(':'.join(libraries))}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}",
    ]
    if (DEBIAN / "usr" / "share" / "fonts").exists():
        fonts = DEBIAN / "fonts.conf"
        fonts.write_text(_FONTS.format(folder=DEBIAN))
        lines.append(f"export FONTCONFIG_FILE={shlex.quote(str(fonts))}")
    lines.append(f'exec {shlex.quote(str(DEBIAN / program))} "$@"')
    made = SCRATCH / name
    made.write_text("\n".join(lines) + "\n")
    made.chmod(0o755)
    output([str(made), "--version"])
    BIN.mkdir(parents=True, exist_ok=True)
    made.replace(BIN / name)


@functools.cache
def _update() -> None:
    for folder in (_STATE / "lists" / "partial", _ARCHIVES / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    run("Debian's package lists", _command("update"), grows=_STATE / "lists", megabytes=0)


@functools.cache
def _unpack(archive: str) -> None:
    DEBIAN.mkdir(parents=True, exist_ok=True)
    output(["dpkg-deb", "--extract", str(_ARCHIVES / archive), str(DEBIAN)])


def _command(*words: str) -> list[str]:
    own = [word for key, value in _OWN.items() for word in ("-o", f"{key}={value}")]
    return ["apt-get", "-qq", *own, *words]
