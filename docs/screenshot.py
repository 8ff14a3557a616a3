"""Takes the README's screenshot of the asset graph: `python docs/screenshot.py`.

Launches mesh and Dagster as `make pipelines` does, has a model trained and rolled out twice, and looks at the graph in
a headless Chromium, which `python -m tools chromium chromedriver` fetches.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests")]

from support.browser import PROGRAMS, Ui, browser  # noqa: E402
from support.dagster_ui import LOCATION, launched, retrain  # noqa: E402
from tools.known import fixes, missing  # noqa: E402
from tools.places import put_on_path  # noqa: E402

IMAGE = DOCS / "images" / "asset-graph.png"


def main() -> int:
    """Write the image."""
    if absent := missing(PROGRAMS):
        print(*fixes(absent), sep="\n", file=sys.stderr)
        return 1
    put_on_path()
    with tempfile.TemporaryDirectory() as folder, launched(Path(folder) / "state") as stack:
        stack.dagster.must_succeed(stack.dagster.launch("retrain", retrain(seed=0)))
        with stack.caller().calling():
            stack.dagster.must_succeed(stack.dagster.launch("retrain", retrain(seed=1, weights=[10.0, 50.0])))
        with browser(2300, 640) as driver:
            ui = Ui(driver, stack.dagster.url, LOCATION)
            ui.open("/asset-groups?expanded=global%40global%3Amodels%2Cglobal%40global%3Aserving")
            for text in ("5 / 5 Passed", "2 partitions"):
                ui.see_text(text)
            driver.save_screenshot(str(IMAGE))
    print(f"written to {IMAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
