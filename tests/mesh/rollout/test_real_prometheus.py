"""Checks against a real Prometheus server."""

import pytest

from shoal.core.actions import AskCheck
from shoal.core.rollout.plan import Check, Metric
from shoal.mesh.checks.asking import CheckAsker
from support.prometheus import running_prometheus
from waiting import until

pytestmark = pytest.mark.server

ODD = "di\"gi'ts`\\{}\n"
"""A name that would end any string, if it could."""


@pytest.fixture
def prometheus(tmp_path):
    config = tmp_path / "prometheus.yml"
    config.write_text("{}")
    with running_prometheus(config, tmp_path / "data") as url:
        yield url


async def test_queries_are_understood_and_names_stay_names(prometheus):
    answers = []
    asker = CheckAsker(answers.append)

    async def ask(query, **limits):
        check = Check("prom", Metric.PROMETHEUS, url=prometheus, query=query, timeout=10.0, **limits)
        asker.start(AskCheck("digits", "r1", "old", ODD, check))
        await until(lambda: answers, "an answer")
        return answers.pop()

    try:
        answer = await ask("vector(0.5)", max=0.4)
        assert (answer.good, answer.value) == (False, 0.5)
        answer = await ask("scalar(vector(3))", min=3)
        assert (answer.good, answer.value) == (True, 3.0)
        assert (await ask('up{model="{{target}}"}', max=1)).message.endswith("the query found nothing")
        assert (await ask("vector(0) / 0", max=1)).message.endswith("the query yields NaN")
        assert "parse error" in (await ask("rate(", max=1)).message
        for quote in "\"'":  # the name that was filled in is the very one that is written out here
            query = f"label_replace(vector(1), 'm', {quote}{{{{target}}}}{quote}, '', '')"
            written = "label_replace(vector(1), 'm', \"di\\\"gi'ts`\\\\{}\\n\", '', '')"
            assert (await ask(f"{query} == on (m) {written}", min=1)).good is True
    finally:
        await asker.close()
