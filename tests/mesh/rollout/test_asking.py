"""Webhooks and Prometheus servers, asked over real HTTP."""

import asyncio
import json
import socket
from urllib.parse import parse_qs, urlsplit

import pytest

from shoal.core.actions import AskCheck
from shoal.core.rollout.plan import Check, Metric
from shoal.mesh.checks.asking import MAX_ANSWER, CheckAsker
from waiting import until

pytestmark = pytest.mark.server


class Asking:
    def __init__(self):
        self.answers = []
        self.asker = CheckAsker(self.answers.append)

    def start(self, metric, url, *, rollout="r1", **more):
        check = Check("hook", metric, url=url, **({"timeout": 5.0} | more))
        self.asker.start(AskCheck("digits", rollout, "old", "new", check))

    async def ask(self, metric, url, **more):
        self.start(metric, url, **more)
        await until(lambda: self.answers, "an answer")
        return self.answers.pop()


@pytest.fixture
async def asking():
    asking = Asking()
    yield asking
    await asking.asker.close()


def webhook(asking, outside, **more):
    return asking.ask(Metric.WEBHOOK, f"{outside.url}/judge?key=secret", **more)


def prometheus(asking, outside, **more):
    return asking.ask(Metric.PROMETHEUS, f"{outside.url}/select/", **({"query": 'x{m="{{target}}"}'} | more))


def vector(*values):
    result = [{"metric": {}, "value": [1700000000.5, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


async def test_a_webhook_is_told_what_it_is_about(asking, outside):
    answer = await webhook(asking, outside)
    assert (answer.endpoint, answer.rollout, answer.check) == ("digits", "r1", "hook")
    assert (answer.good, answer.value, answer.message) == (True, None, "")
    ((method, path, body),) = outside.got
    assert (method, path) == ("POST", "/judge?key=secret")
    assert json.loads(body) == {
        "endpoint": "digits",
        "rollout": "r1",
        "active": "old",
        "target": "new",
        "check": "hook",
    }


@pytest.mark.parametrize(
    ("status", "document", "good", "value", "message"),
    [
        (200, {"passed": True, "value": 0.5}, True, 0.5, ""),
        (202, ["anything"], True, None, ""),
        (200, {"passed": False, "message": "too many returns", "value": 7}, False, 7.0, "too many returns"),
        (200, {"passed": False}, False, None, "says that it did not pass"),
        (200, {"passed": "no", "value": True}, True, None, ""),
        (418, {"message": "short and stout"}, False, None, "short and stout"),
        (404, None, False, None, "answered 404"),
        (503, {"passed": True}, None, None, "answered 503"),
        (302, {"passed": False}, None, None, "redirects are not followed"),
    ],
)
async def test_what_a_webhook_says_decides(asking, outside, status, document, good, value, message):
    outside.says(document, status)
    outside.headers["location"] = f"{outside.url}/elsewhere"
    answer = await webhook(asking, outside)
    assert (answer.good, answer.value) == (good, value)
    assert message in answer.message
    assert bool(message) == bool(answer.message)
    assert len(outside.got) == 1


async def test_nobody_answering_counts_neither_way(asking, outside):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for metric in (Metric.WEBHOOK, Metric.PROMETHEUS):
            answer = await asking.ask(metric, f"http://user:secret@127.0.0.1:{port}/?token=secret", query="x")
            assert (answer.good, answer.value) == (None, None)
            assert f"127.0.0.1:{port} cannot be asked" in answer.message
            assert "secret" not in answer.message


async def test_a_slow_answer_is_none(asking, outside):
    outside.seconds = 30
    answer = await webhook(asking, outside, timeout=0.2)
    assert answer.good is None
    assert answer.message.endswith("gave no answer within 0.2s")


async def test_an_endless_answer_is_none(asking, outside):
    outside.body = b" " * MAX_ANSWER + b'{"passed": false}'
    for ask in (webhook, prometheus):
        answer = await ask(asking, outside)
        assert answer.good is None
        assert "more than" in answer.message


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://", "digits", "http://[::1"])
async def test_only_web_addresses_are_asked(asking, url):
    for metric in (Metric.WEBHOOK, Metric.PROMETHEUS):
        answer = await asking.ask(metric, url, query="x")
        assert answer.good is None
        assert answer.message


@pytest.mark.parametrize(
    ("document", "limits", "good", "value", "message"),
    [
        (vector("0.25", "9"), {"max": 0.25}, True, 0.25, ""),
        (vector("0.26"), {"max": 0.25}, False, 0.26, "0.26 is above 0.25"),
        (vector("0.1"), {"min": 0.2, "max": 1}, False, 0.1, "0.1 is below 0.2"),
        (vector("+Inf"), {"max": 1}, False, None, "inf is above 1"),
        (vector("NaN"), {"max": 1}, None, None, "the query yields NaN"),
        (vector(), {"max": 1}, None, None, "the query found nothing"),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}, {"min": 2}, True, 2.0, ""),
        ({"status": "error", "error": "parse error"}, {"max": 1}, None, None, "answered 200: parse error"),
    ],
)
async def test_a_query_is_held_against_its_limits(asking, outside, document, limits, good, value, message):
    outside.says(document)
    answer = await prometheus(asking, outside, **limits)
    assert (answer.good, answer.value) == (good, value)
    assert answer.message.endswith(message)
    assert bool(message) == bool(answer.message)


async def test_prometheus_is_asked_as_it_wants_to_be(asking, outside):
    outside.says(vector("1"))
    await prometheus(asking, outside, query='sum(rate(errors{model="{{target}}", a="b&c+d"}[1m]))')
    ((method, path, _),) = outside.got
    assert (method, urlsplit(path).path) == ("GET", "/select/api/v1/query")
    assert parse_qs(urlsplit(path).query) == {"query": ['sum(rate(errors{model="new", a="b&c+d"}[1m]))']}


async def test_a_wrong_query_is_no_verdict(asking, outside):
    outside.says({"status": "error", "errorType": "bad_data", "error": "1:3: parse error"}, 400)
    answer = await prometheus(asking, outside)
    assert answer.good is None
    assert answer.message.endswith("answered 400: 1:3: parse error")


async def test_asking_again_replaces_the_question_under_way(asking, outside):
    outside.seconds = 30
    asking.start(Metric.WEBHOOK, outside.url)
    await until(lambda: outside.got, "the first question")
    outside.seconds = 0
    asking.start(Metric.WEBHOOK, outside.url)
    await until(lambda: asking.answers, "an answer")
    asking.start(Metric.WEBHOOK, outside.url, rollout="r2")
    await until(lambda: len(asking.answers) == 2, "another answer")
    assert [answer.rollout for answer in asking.answers] == ["r1", "r2"]


async def test_closing_gives_up(outside):
    asking = Asking()
    outside.seconds = 30
    asking.start(Metric.WEBHOOK, outside.url, timeout=30)
    await until(lambda: outside.got, "the question")
    async with asyncio.timeout(5):
        await asking.asker.close()
    assert asking.answers == []
