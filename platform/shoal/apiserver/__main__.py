"""`python -m shoal.apiserver`: the embedded Kubernetes-compatible API server as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from shoal.apiserver.history import MAX_CHANGES
from shoal.apiserver.server import serve
from shoal.apiserver.store import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; return its exit code."""
    parser = argparse.ArgumentParser(prog="shoal.apiserver", description="The embedded Kubernetes API of Shoal.")
    parser.add_argument("--state-dir", type=Path, required=True, help="where objects, certificates and token are kept")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback)")
    parser.add_argument("--port", type=int, default=6443, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--history", type=int, default=MAX_CHANGES, help="how many changes are kept for watches to resume from"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(options.state_dir, options.host, options.port, history=max(options.history, 1)))
    except (StoreError, OSError) as error:
        print(f"shoal.apiserver: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
