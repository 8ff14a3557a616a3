"""Generate Python code and descriptor sets from the `.proto` files of this folder. `make protos` runs it.

With `--check` nothing is written: the exit status says whether what is committed is current.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent
SERVICES = tuple(
    f"shoal_protos/{name}.proto"
    for name in (
        "mmesh/model_runtime",
        "mmesh/model_mesh",
        "adapter/adapter",
        "usage/usage",
        "xds/access_log_service",
        "xds/discovery",
        "xds/load_stats",
        "xds/metrics_service",
    )
)
MESSAGES = tuple(
    f"shoal_protos/xds/{name}.proto"
    for name in (
        "access_log",
        "cluster",
        "composite",
        "core",
        "endpoint",
        "http_options",
        "lua",
        "percent",
        "route",
        "runtime",
        "transcoder",
        "typed_struct",
    )
)
DESCRIPTORS = ("shoal_protos/inference/open_inference.proto",)


def generate(out: Path) -> list[Path]:
    """Write everything generated below `out`; the paths are relative to it. Raises SystemExit if protoc fails."""
    well_known = resources.files("grpc_tools") / "_proto"
    google_api = resources.files("google.api").joinpath("annotations.proto")
    includes = [f"-I{HERE}", f"-I{well_known}", f"-I{Path(str(google_api)).parents[2]}"]
    for source in (*SERVICES, *MESSAGES):
        (out / source).parent.mkdir(parents=True, exist_ok=True)
        stubs = [f"--grpc_python_out={out}"] if source in SERVICES else []
        run([*includes, f"--python_out={out}", f"--pyi_out={out}", *stubs, source])
    for source in DESCRIPTORS:
        target = (out / source).with_suffix(".binpb")
        target.parent.mkdir(parents=True, exist_ok=True)
        run([*includes, "--include_imports", f"--descriptor_set_out={target}", source])
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())


def run(arguments: list[str]) -> None:
    """Call protoc and stop the program when it fails."""
    if protoc.main(["protoc", *arguments]):
        raise SystemExit(f"protoc failed on {arguments[-1]}")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with what is committed")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        stale = [p for p in generate(fresh) if not (HERE / p).exists() or not filecmp.cmp(fresh / p, HERE / p, False)]
        if check and stale:
            sys.exit("generated code is not current, run `make protos`: " + ", ".join(map(str, stale)))
        for path in stale:
            shutil.copyfile(fresh / path, HERE / path)
            print("wrote", path)


if __name__ == "__main__":
    main()
