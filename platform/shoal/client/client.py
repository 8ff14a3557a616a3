"""`ShoalClient`: what pipelines and the command line ask of a cluster, as plain calls.

Every call is one or a few requests and keeps no state, so an object may be shared between threads, and a process that
dies loses nothing: rollouts live in the mesh.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from shoal.client import standing
from shoal.client.connection import JSON_PATCH, Connection, Document
from shoal.client.embedded import gateway_of
from shoal.client.errors import NotFound, Refused, ShoalError, TimedOut, Unreachable
from shoal.client.history import predictor_of, revision_to_go_back_to
from shoal.client.inference import post
from shoal.client.inferenceservices import FIELD_MANAGER, InferenceServices
from shoal.client.reports import RolloutReport
from shoal.resources.rollout import ROLLOUT_BY
from shoal.statedir import state_dir

NAMESPACE = "modelmesh-serving"
Verb = Literal["pause", "resume", "promote", "abort", "retry"]
VERBS: tuple[Verb, ...] = ("pause", "resume", "promote", "abort", "retry")
_GATEWAY = "modelmesh-serving"
"""The gateway's Service unless the configuration names it otherwise."""
_PATIENCE = 60.0
"""Seconds for which a cluster that does not answer is asked again while something is waited for: it may restart."""


class ShoalClient(InferenceServices):
    """One namespace of a cluster: its InferenceServices, their rollouts, and requests to them."""

    def __init__(self, connection: Connection, namespace: str = NAMESPACE, gateway: str = "") -> None:
        """Use one of the `from_` methods instead. `gateway`: base URL of its REST endpoint."""
        super().__init__(connection, namespace)
        self._gateway = gateway.rstrip("/")

    @classmethod
    def from_kubeconfig(
        cls,
        path: str | Path | None = None,
        context: str | None = None,
        namespace: str = NAMESPACE,
        gateway: str = "",
    ) -> ShoalClient:
        """A client of the cluster of a kubeconfig.

        Args:
            path: None: as `KUBECONFIG` or `~/.kube/config` says, or, in a pod, its service account.
            context: None: the kubeconfig's current one.
            namespace: of the InferenceServices.
            gateway: base URL for `infer`, such as `http://gateway:8008`; empty: through the API server.

        Raises:
            ShoalError: the kubeconfig cannot be used.
        """
        return cls(Connection(Path(path).expanduser() if path else None, context), namespace, gateway)

    @classmethod
    def from_state_dir(cls, path: str | Path | None = None, namespace: str = NAMESPACE) -> ShoalClient:
        """A client of the embedded cluster of a state directory; None: the one `shoal` uses.

        Raises:
            Unreachable: no cluster was started there.
        """
        root = state_dir(path)
        kubeconfig = root / "kubeconfig"
        if not kubeconfig.is_file():
            raise Unreachable(f"no cluster was started on {root}; start it with `shoal up --state-dir {root}`")
        return cls(Connection(kubeconfig, None), namespace, gateway_of(root))

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> ShoalClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- rollouts ----------------------------------------------------------------------------------------------------

    def rollouts(self) -> list[RolloutReport]:
        """The newest rollout of every InferenceService that ever had one, without their history."""
        answer = self._mesh("GET", "rollouts")
        return [_report(entry) for entry in answer.get("rollouts") or ()]

    def rollout(self, name: str) -> RolloutReport:
        """The newest rollout of an InferenceService.

        Raises:
            NotFound: it never had one.
        """
        return _report(self._mesh("GET", f"rollouts/{name}"))

    def newest_rollout(self, name: str) -> RolloutReport | None:
        """The newest rollout of an InferenceService; None if it never had one."""
        try:
            return self.rollout(name)
        except NotFound:
            return None

    def roll_out(
        self,
        manifest: Mapping[str, Any],
        *,
        by: str = "",
        reason: str = "",
        field_manager: str = FIELD_MANAGER,
        adopt: bool = True,
        timeout: float = 600.0,
    ) -> RolloutReport | None:
        """Begin the rollout that a manifest asks for, or adopt the one that leads to its revision already.

        So this may be done twice: who died while following a rollout finds it again. A change that was rolled back
        before is tried again.

        Args:
            manifest: an InferenceService; kind, namespace and the deployment mode are added.
            by: who asks, for the history.
            reason: why, for the history.
            field_manager: under which name the API remembers whose fields they are.
            adopt: whether a rollout to this revision that is under way is taken for this one; otherwise it is refused.
            timeout: seconds that the first revision of a new InferenceService may take to serve.

        Returns:
            The rollout, for `follow`. None: there was nothing to replace, and the revision serves.

        Raises:
            Refused: a field is wrong, with its path and the fix; a rollout is under way that `adopt` or its own plan
                does not allow to take over.
            TimedOut: the controller did not take it up in time, or the first revision does not serve in time.
        """
        document = self._document(manifest)
        metadata, told = document["metadata"], ": ".join(part for part in (by, reason) if part)
        annotations = {"serving.kserve.io/deploymentMode": "ModelMesh", **(metadata.get("annotations") or {})}
        metadata["annotations"] = annotations | ({ROLLOUT_BY: told} if told else {})
        name, revision = str(metadata["name"]), self.revision_of(document)
        before = self.newest_rollout(name)
        if before is not None and before.live and before.target == revision:
            if not adopt:
                raise Refused(f"rollout {before.id} to this version is under way, started by {before.by or '?'}")
            return before
        item = self.apply(document, field_manager)
        report = self.rollout_to(name, revision)
        if report is None:
            self.wait_ready(name, int(item["metadata"]["generation"]), timeout)
        elif before is not None and report.id == before.id and report.phase == "RolledBack":
            return self.steer(name, "retry", report.id, by, reason or "rolled out again")
        return report

    def rollout_to(self, name: str, revision: str, timeout: float = 30.0) -> RolloutReport | None:
        """The rollout that leads to a revision just applied, as soon as the mesh knows of it.

        None when there is nothing to roll out: the revision serves already, or it is the first one.

        Raises:
            NotFound: there is no such InferenceService.
            Refused: its spec cannot be used, or a rollout under way does not let itself be superseded.
            TimedOut: the controller did not take it up in time.
        """
        for item in self._looks(name, timeout, "is not taken up"):
            if not standing.taken_up(item):
                continue
            if why := standing.invalid(item):
                raise Refused(f"InferenceService {name}: {why}")
            if refused := _refusal(standing.status(item)):
                raise Refused(f"InferenceService {name}: {refused}")
            try:
                report = self.rollout(name)
            except NotFound:
                return None
            return report if report.target == revision else None
        raise AssertionError("the looks end by TimedOut only")

    def follow(
        self, name: str, rollout_id: str = "", timeout: float | None = None, interval: float = 0.5
    ) -> Iterator[RolloutReport]:
        """The reports of a rollout, one every `interval` seconds, until it ended; the last one says how.

        A mesh that does not answer for up to a minute, as when it restarts, is waited for.

        Args:
            name: of the InferenceService.
            rollout_id: empty: the newest rollout.
            timeout: seconds; None: as long as it takes.
            interval: seconds between two looks.

        Raises:
            NotFound: there is no such rollout, or it is forgotten.
            Unreachable: nobody answered for a minute.
            TimedOut: it goes on, but `timeout` is over.
        """
        end = None if timeout is None else time.monotonic() + timeout
        silent_since: float | None = None
        while True:
            try:
                report = self._same(self.rollout(name), rollout_id)
            except Unreachable:
                silent_since = silent_since if silent_since is not None else time.monotonic()
                if time.monotonic() - silent_since > _PATIENCE:
                    raise
            else:
                silent_since, rollout_id = None, report.id
                yield report
                if not report.live:
                    return
                if end is not None and time.monotonic() >= end:
                    raise TimedOut(f"rollout {report.id} of {name} is still {report.phase} after {timeout:g} s")
            if silent_since is not None and end is not None and time.monotonic() >= end:
                raise TimedOut(f"the mesh does not answer, and {timeout:g} s are over; rollout {rollout_id} goes on")
            time.sleep(interval)

    def steer(self, name: str, verb: Verb, rollout: str = "", by: str = "", reason: str = "") -> RolloutReport:
        """Pause, resume, promote, abort or retry a rollout; how it stands then.

        Args:
            name: of the InferenceService.
            verb: what to do.
            rollout: its id, to be sure that no other is meant; empty: whichever is newest.
            by: who asks, for the history.
            reason: why, for the history.

        Raises:
            NotFound: there is no rollout.
            Refused: it is another, or cannot do that where it stands; the message says what it can.
        """
        if verb not in VERBS:
            raise Refused(f"{verb!r} is no verb of a rollout; use one of {', '.join(VERBS)}")
        return _report(self._mesh("POST", f"rollouts/{name}/{verb}", {"rollout": rollout, "by": by, "reason": reason}))

    def undo(self, name: str, to: str | None = None, by: str = "", reason: str = "") -> RolloutReport:
        """Declare an earlier revision again: at once if it is still retained.

        Args:
            name: of the InferenceService.
            to: a revision of the history, its hash, or the id of the rollout that led to it; None: the one before,
                that is where a live or rolled-back rollout started.
            by: who asks, for the history.
            reason: why; stands in the same annotation as `by`.

        Raises:
            NotFound: there was no rollout, or the history does not have the revision.
            Refused: the InferenceService was changed meanwhile.
        """
        report = self.rollout(name)
        revision = revision_to_go_back_to(report, to)
        predictor = predictor_of(report, revision)
        item = self._require(name)
        told = "; ".join(part for part in (by or "undo", reason) if part)
        self._declare_predictor(item, predictor, told)
        return self.rollout_to(name, revision) or self.rollout(name)

    # --- requests ----------------------------------------------------------------------------------------------------

    def infer(self, name: str, body: Mapping[str, Any], timeout: float = 60.0) -> Document:
        """Send one request of the Open Inference Protocol (V2, REST) to an InferenceService; the answer.

        Raises:
            NotFound: no such model.
            Refused: the request does not fit the model.
            Unreachable: no answer, or the model does not serve.
        """
        path = f"/v2/models/{name}/infer"
        if not self._gateway:
            proxy = f"/api/v1/namespaces/{self.namespace}/services/{_GATEWAY}:http/proxy{path}"
            return self._connection.call("POST", proxy, dict(body), timeout=timeout)
        return post(f"{self._gateway}{path}", body, timeout)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _mesh(self, verb: str, path: str, body: object = None) -> Document:
        base = f"/api/v1/namespaces/{self.namespace}/services/shoal-mesh:admin/proxy"
        return self._connection.call(verb, f"{base}/{path}", body)

    def _same(self, report: RolloutReport, rollout_id: str) -> RolloutReport:
        """The report of the rollout that is followed, also if another began since."""
        if not rollout_id or report.id == rollout_id:
            return report
        past = report.past(rollout_id)
        if past is None:
            raise NotFound(
                f"{report.name} has no rollout {rollout_id!r}; the newest is {report.id}, see `shoal rollout history`"
            )
        return past

    def _declare_predictor(self, item: Document, predictor: Mapping[str, Any], by: str) -> None:
        metadata, spec = item["metadata"], item["spec"]
        patch: list[Document] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "add", "path": "/spec/predictor", "value": dict(predictor)},
            {"op": "add", "path": f"/metadata/annotations/{ROLLOUT_BY.replace('/', '~1')}", "value": by},
        ]
        if "canary" in spec:
            patch.append({"op": "remove", "path": "/spec/canary"})
        path = self._isvc_path(metadata["name"])
        self._connection.call("PATCH", path, patch, kind=JSON_PATCH, query={"fieldManager": FIELD_MANAGER})


def _report(document: Document) -> RolloutReport:
    try:
        return RolloutReport.model_validate(document)
    except ValidationError as error:
        raise ShoalError(f"the mesh answered something that is no rollout; do versions fit together? {error}") from None


def _refusal(state: Mapping[str, Any]) -> str:
    """What the controller says of a rollout it could not begin."""
    found: Mapping[str, Any] = next(
        (c for c in state.get("conditions") or () if c.get("type") == "RolloutProgressing"), {}
    )
    return str(found.get("message") or "the rollout was refused") if found.get("reason") == "Refused" else ""
