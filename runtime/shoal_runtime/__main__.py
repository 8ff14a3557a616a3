"""`python -m shoal_runtime`: the same as the `shoal-adapter` command."""

from shoal_runtime.main import main

if __name__ == "__main__":
    raise SystemExit(main())
