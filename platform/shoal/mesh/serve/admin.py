"""The mesh's own HTTP: health, metrics, and what it knows, as JSON for `shoal get copies`, `top`, `why` and `wait`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shoal.core.core import Core
from shoal.core.types import CopyView, EndpointView, ModelState, PodView, RevisionId
from shoal.mesh.engine.faults import Faults
from shoal.mesh.metrics import Metrics
from shoal.mesh.rollout.http import RolloutRoutes
from shoal.mesh.rollout.steering import Steering
from shoal.mesh.serve.usage import UsageCollector
from shoal.mesh.state.models import Models

HOTTEST: Final = 20
MAX_LISTED: Final = 10_000
"""Copies or endpoints in one answer."""


class Admin:
    """Answers questions about the mesh.

    Args:
        steering: shows and steers rollouts.
        ready: why the mesh is not ready; empty when it is.
        collect_usage: makes durable what was used up to now.
    """

    def __init__(
        self,
        core: Core,
        models: Models,
        metrics: Metrics,
        usage: UsageCollector,
        steering: Steering,
        ready: Callable[[], str],
        now: Callable[[], float],
        faults: Faults,
        collect_usage: Callable[[], Awaitable[None]],
    ) -> None:
        self._core = core
        self._models = models
        self._metrics = metrics
        self._usage = usage
        self._rollouts = RolloutRoutes(steering)
        self._not_ready = ready
        self._now = now
        self._faults = faults
        self._collect_usage = collect_usage

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._prometheus),
                Route("/faults", self._show_faults),
                Route("/copies", self._copies),
                Route("/pods", self._pods),
                Route("/endpoints", self._endpoints),
                Route("/endpoints/{name}/load", self._load, methods=["POST"]),
                Route("/release/{name:path}", self._release, methods=["POST"]),
                Route("/top", self._top),
                Route("/usage/save", self._save_usage, methods=["POST"]),
                Route("/why/{name:path}", self._why),
                *self._rollouts.routes(),
            ]
        )

    def metrics_app(self) -> Starlette:
        """Metrics and nothing else, for their own port."""
        return Starlette(routes=[Route("/metrics", self._prometheus)])

    async def _healthz(self, _: Request) -> Response:
        return Response("ok", media_type="text/plain")

    async def _readyz(self, _: Request) -> Response:
        why = self._not_ready()
        return Response(why or "ok", 503 if why else 200, media_type="text/plain")

    async def _prometheus(self, _: Request) -> Response:
        states = [view.state for name in self._core.models() if (view := self._core.model(name))]
        self._metrics.models_managed.set(len(states))
        self._metrics.models_loaded.set(states.count(ModelState.LOADED))
        self._metrics.models_failed.set(states.count(ModelState.FAILED_TO_LOAD))
        self._metrics.pods(self._core.pods(), self._now())
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _show_faults(self, _: Request) -> Response:
        last = self._faults.last
        shown = {"at": last.at, "message": last.message} if last is not None else None
        return JSONResponse({"count": self._faults.count, "last": shown})

    async def _copies(self, _: Request) -> Response:
        copies = [copy_json(copy) for _, copy in zip(range(MAX_LISTED), self._core.copies(), strict=False)]
        return JSONResponse({"copies": copies})

    async def _pods(self, _: Request) -> Response:
        return JSONResponse({"pods": [pod_json(view) for view in self._core.pods()]})

    async def _endpoints(self, _: Request) -> Response:
        views = [endpoint_json(view) for _, view in zip(range(MAX_LISTED), self._models.aliases(), strict=False)]
        return JSONResponse({"endpoints": views})

    async def _load(self, request: Request) -> Response:
        """Begin to load what an endpoint shall lead to, also if that failed before; say whether it is loaded."""
        name = request.path_params["name"]
        endpoint = self._models.alias(name)
        if endpoint is None:
            return JSONResponse({"error": f"no InferenceService {name}"}, 404)
        await self._models.ensure_loaded(endpoint.target, retry=True)
        loaded = endpoint.active == endpoint.target and endpoint.active_model.state is ModelState.LOADED
        return JSONResponse({"revision": endpoint.target, "loaded": loaded}, 202)

    async def _release(self, request: Request) -> Response:
        """Let the quarantined revisions of an endpoint, or one by its id, be loaded again."""
        name = request.path_params["name"]
        endpoint = self._models.alias(name)
        revisions = dict.fromkeys([endpoint.active, endpoint.target]) if endpoint else [RevisionId(name)]
        known = [revision for revision in revisions if self._core.model(revision) is not None]
        if not known:
            return JSONResponse({"error": f"no model or InferenceService {name}"}, 404)
        released = [revision for revision in known if self._core.is_charged(revision)]
        for revision in released:
            await self._models.release(revision)
        return JSONResponse({"released": released})

    async def _top(self, _: Request) -> Response:
        models = []
        for revision, rate in self._usage.hottest(HOTTEST):
            view = self._core.model(RevisionId(revision))
            loaded = [copy for copy in view.copies if copy.state.value == "Loaded"] if view else []
            models.append(
                {
                    "revision": revision,
                    "endpoint": min(self._models.endpoints_of(revision), default=revision),
                    "requestsPerSecond": round(rate, 1),
                    "copies": len(loaded),
                    "lastUsed": view.last_used if view else 0,
                }
            )
        totals = self._usage.totals() | {
            "loads": self._metrics.loads_total,
            "evictions": self._metrics.evictions_total,
            "hotRequests": self._metrics.hot_total,
            "coldRequests": self._metrics.cold_total,
        }
        return JSONResponse(totals | {"pods": [pod_json(view) for view in self._core.pods()], "models": models})

    async def _save_usage(self, _: Request) -> Response:
        """Hear from the gateways and write down last uses: asked before a cluster is stopped."""
        await self._collect_usage()
        return Response("saved", media_type="text/plain")

    async def _why(self, request: Request) -> Response:
        name = request.path_params["name"]
        endpoint = self._models.alias(name)
        revisions = dict.fromkeys([endpoint.active, endpoint.target]) if endpoint else [RevisionId(name)]
        decisions = [
            {
                "at": decision.at,
                "what": decision.what,
                "revision": decision.revision,
                "chosen": decision.chosen,
                "because": decision.because,
                "rejected": [{"pod": rejection.pod, "why": rejection.why} for rejection in decision.rejected],
            }
            for revision in revisions
            for decision in self._core.why(revision)
        ]
        if not decisions and endpoint is None and self._core.model(RevisionId(name)) is None:
            return JSONResponse({"error": f"no model or InferenceService {name}"}, 404)
        return JSONResponse({"decisions": sorted(decisions, key=_at)})


def _at(decision: dict[str, Any]) -> float:
    at: float = decision["at"]
    return at


def copy_json(copy: CopyView) -> dict[str, Any]:
    """One copy."""
    return {
        "revision": copy.revision,
        "pod": copy.pod,
        "state": copy.state.value,
        "sizeBytes": copy.size_bytes,
        "since": copy.since,
        "lastUsed": copy.last_used,
        "error": copy.error,
    }


def pod_json(view: PodView) -> dict[str, Any]:
    """One pod."""
    return {
        "pod": view.spec.id,
        "runtime": view.spec.runtime,
        "capacityBytes": view.spec.capacity_bytes,
        "usedBytes": view.used_bytes,
        "copies": view.copies,
        "loading": view.loading,
        "queued": view.queued,
        "oldestUse": view.oldest_use,
        "draining": view.draining,
    }


def endpoint_json(view: EndpointView) -> dict[str, Any]:
    """One endpoint."""
    return {
        "name": view.name,
        "active": view.active,
        "target": view.target,
        "transition": view.transition.value,
        "state": view.active_model.state.value,
        "copies": [copy_json(copy) for copy in view.active_model.copies],
        "failure": view.failure.message if view.failure else None,
    }
