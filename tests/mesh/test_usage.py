"""How rates are told from reports that come every second, or less often."""

from __future__ import annotations

import pytest

from shoal.core.events import RevisionUsage
from shoal.core.types import RevisionId
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.serve.usage import UsageCollector


@pytest.mark.parametrize("interval", [1.0, 5.0])
@pytest.mark.parametrize("parts", [1, 4])
def test_steady_use_has_a_steady_rate_however_often_it_is_reported(interval, parts):
    now = 0.0
    meter = UsageCollector(lambda _: None, InFlight(), Metrics(), lambda: now)
    for _ in range(int(60 / interval) * parts):  # each part of a gateway reports in its turn
        now += interval / parts
        meter.gateway_reported(interval, (RevisionUsage(RevisionId("r"), int(20 * interval / parts)),))
    for _ in range(4):
        now += interval / 4
        assert meter.rate("r") == pytest.approx(20, rel=0.01)
    now += 60
    assert meter.rate("r") < 0.1
