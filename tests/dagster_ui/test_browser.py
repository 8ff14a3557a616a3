"""The UI in a real browser: a rollout launched from the launchpad with a config, watched to a good and to a bad end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from needs import need
from support.browser import PROGRAMS, Ui, browser
from support.dagster_ui import ENOUGH, LOCATION, Stack, publish

pytestmark = [pytest.mark.server, pytest.mark.slow]
CONFIG = """\
ops:
  roll_out:
    config:
      strategy: canary
      weights: [WEIGHTS]
      step_seconds: 60
      min_samples: SAMPLES
      max_latency_ratio: 0
      reason: from the launchpad
"""


def config(weights: str, samples: int) -> str:
    """The launchpad's form, as YAML."""
    return CONFIG.replace("WEIGHTS", weights).replace("SAMPLES", str(samples))


@pytest.fixture
def ui(serving: Stack) -> Iterator[Ui]:
    """A browser on the UI."""
    need(*PROGRAMS)
    with browser() as driver:
        yield Ui(driver, serving.dagster.url, LOCATION)


def test_a_rollout_from_the_launchpad_succeeds_and_shows_how(serving: Stack, ui: Ui):
    publish(serving.dagster, "good", 21)
    with serving.caller().calling():
        run = ui.launch("rollout", "digits", config("10, 50", 20))
        ui.see("//*[normalize-space()='Success']", 120)
    assert serving.dagster.run(run)["status"] == "SUCCESS"
    assert "from the launchpad" in serving.rollout()["by"]
    ui.open("/assets/rollout?view=overview")
    ui.press("//*[text()='Plots']")
    ui.see("//*[text()='weight']/following::canvas")
    ui.open(f"/runs/{run}")
    ui.see_text("ASSET_OBSERVATI")
    ui.open("/assets/rollout?view=checks")
    ui.see_text("promoted")
    ui.see_text("Succeeded")


def test_a_bad_rollout_from_the_launchpad_fails_and_says_why(serving: Stack, ui: Ui):
    before = serving.cluster.status("digits")["modelRevisionName"]
    publish(serving.dagster, "brittle", 22)
    with serving.caller().calling():
        run = ui.launch("rollout", "digits", config("50", ENOUGH))
        ui.see("//*[normalize-space()='Failure']", 120)
    assert serving.dagster.run(run)["status"] == "FAILURE"
    ui.see_text("answers are errors")
    ui.open("/assets/rollout?view=checks")
    ui.see_text("answers are errors")
    assert serving.cluster.status("digits")["modelRevisionName"] == before
