"""News of runs by webhook, to a real server that keeps what it is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import dagster as dg
from dagster_shoal import ShoalResource
from dagster_shoal.notifications import Webhook, message_of, notification_hooks, notification_sensors

TAGS = {"shoal/model": "digits", "shoal/version": "0123456789ab", "shoal/rollout-id": "digits-3"}


class Chat:
    """A chat's webhook."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.answers: list[int] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                chat.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(chat.answers.pop(0) if chat.answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/secret"


@pytest.fixture
def chat() -> Iterator[Chat]:
    chat = Chat()
    thread = threading.Thread(target=chat.server.serve_forever)
    thread.start()
    yield chat
    chat.server.shutdown()
    thread.join()
    chat.server.server_close()


def ended(instance: dg.DagsterInstance, *, fails: bool, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
    @dg.op
    def work() -> None:
        if fails:
            raise dg.Failure("gate metrics: accuracy is 0.5, below 0.9", allow_retries=False)

    @dg.job(tags=tags)
    def rollout() -> None:
        work()

    return rollout.execute_in_process(instance=instance, raise_on_error=False)


@pytest.mark.parametrize(("outcome", "fails"), [("success", False), ("failure", True)])
def test_sensor_posts_how_a_run_ended(chat: Chat, instance: dg.DagsterInstance, outcome: Any, fails: bool):
    result = ended(instance, fails=fails, tags=TAGS)
    (sensor,) = notification_sensors([outcome])
    event = result.get_run_failure_event() if fails else result.get_run_success_event()
    context = _context(sensor.name, instance, result, event)
    shoal = ShoalResource(dagster_url="https://dagster.example.com")
    sensor(context, webhook=Webhook(url=chat.url), shoal=shoal)
    (message,) = chat.messages
    assert message["text"].endswith(f"rollout of digits 0123456789ab: {outcome}")
    section, below = message["blocks"]
    assert ("accuracy is 0.5, below 0.9" in section["text"]["text"]) == fails
    assert f"https://dagster.example.com/runs/{result.run_id}" in below["elements"][0]["text"]
    assert "digits-3" in below["elements"][0]["text"]


@pytest.mark.parametrize(
    ("asset_says", "posted"),
    [("", "metrics: accuracy is 0.5, below 0.9"), ("rollout digits-3 went back", "rollout digits-3 went back")],
)
def test_news_of_a_stopped_model_are_the_words_of_what_stopped_it(
    chat: Chat, instance: dg.DagsterInstance, asset_says: str, posted: str
):
    failed = dg.AssetCheckResult(passed=False, check_name="metrics", description="accuracy is 0.5, below 0.9")

    @dg.asset(check_specs=[dg.AssetCheckSpec("metrics", asset="model", blocking=True)])
    def model() -> Iterator[Any]:
        yield dg.MaterializeResult()
        yield failed
        if asset_says:
            raise dg.Failure(asset_says, allow_retries=False)

    job = dg.define_asset_job("retrain", dg.AssetSelection.all(), tags=TAGS, executor_def=dg.in_process_executor)
    defs = dg.Definitions(assets=[model], jobs=[job])
    result = defs.resolve_job_def("retrain").execute_in_process(instance=instance, raise_on_error=False)
    (sensor,) = notification_sensors(["failure"])
    context = _context(sensor.name, instance, result, result.get_run_failure_event())
    sensor(context, webhook=Webhook(url=chat.url), shoal=ShoalResource())
    (message,) = chat.messages
    assert message["blocks"][0]["text"]["text"].split("\n")[1:] == [posted]


def _context(
    name: str, instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, event: dg.DagsterEvent
) -> dg.RunStatusSensorContext:
    return dg.build_run_status_sensor_context(
        sensor_name=name, dagster_instance=instance, dagster_run=result.dagster_run, dagster_event=event
    )


def test_runs_about_no_model_are_not_news(chat: Chat, instance: dg.DagsterInstance):
    result = ended(instance, fails=False, tags={})
    (sensor,) = notification_sensors(["success"])
    context = _context(sensor.name, instance, result, result.get_run_success_event())
    sensor(context, webhook=Webhook(url=chat.url), shoal=ShoalResource())
    assert chat.messages == []


@pytest.mark.parametrize(
    ("answers", "problem", "attempts"),
    [([200], "", 1), ([503, 200], "", 2), ([503, 503], "HTTP 503", 2), ([404], "HTTP 404", 1), ([429, 200], "", 2)],
)
def test_webhook_is_asked_twice_at_most(chat: Chat, answers: list[int], problem: str, attempts: int):
    chat.answers = list(answers)
    assert Webhook(url=chat.url).post({"text": "hello"}) == problem
    assert len(chat.messages) == attempts


def test_webhook_that_is_away_tells_without_its_address():
    problem = Webhook(url="http://127.0.0.1:9/services/secret", timeout=0.5).post({"text": "hello"})
    assert problem
    assert "secret" not in problem


def test_long_reasons_fit_the_chat():
    message = message_of("failure", "rollout", TAGS, "link", "x" * 10_000)
    assert len(message["blocks"][0]["text"]["text"]) <= 3000


def test_hooks_post_from_within_the_run(chat: Chat, instance: dg.DagsterInstance):
    @dg.op
    def work() -> None:
        raise dg.Failure("no luck", allow_retries=False)

    hooks = notification_hooks("https://dagster.example.com")

    @dg.job(tags=TAGS, hooks=hooks, resource_defs={"webhook": Webhook(url=chat.url)})
    def retrain() -> None:
        work()

    retrain.execute_in_process(instance=instance, raise_on_error=False)
    (message,) = chat.messages
    assert "retrain: work of digits" in message["text"]
    assert "no luck" in message["blocks"][0]["text"]["text"]
