"""Where an instance keeps its files: one state directory holds all there is to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one state directory."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """How clients reach this instance's API."""
        return self.root / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held by the running supervisor; holds its pid."""
        return self.root / "lock"

    @property
    def status(self) -> Path:
        """What the supervisor says about its parts, as JSON."""
        return self.root / "status.json"

    @property
    def settings(self) -> Path:
        """The options of the last `shoal up`, as JSON."""
        return self.root / "settings.json"

    @property
    def tls(self) -> Path:
        """The API's certificates."""
        return self.root / "tls"

    @property
    def targets(self) -> Path:
        """What Prometheus is to scrape, as JSON."""
        return self.root / "prometheus-targets.json"

    @property
    def logs(self) -> Path:
        """Logs of the instance's own parts."""
        return self.root / "logs"

    @property
    def gateway(self) -> Path:
        """Envoy's files."""
        return self.root / "gateway"

    @property
    def pods(self) -> Path:
        """One directory a pod: its volumes and its containers' logs."""
        return self.root / "pods"

    @property
    def pvcs(self) -> Path:
        """One directory a PersistentVolumeClaim."""
        return self.root / "pvcs"

    @property
    def images(self) -> Path:
        """One directory a locally built image."""
        return self.root / "images"

    def log_of(self, part: str) -> Path:
        """The log of one part of the control plane, such as `mesh`."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Make the directories; the state directory is readable by its owner only, as it holds secrets.

        Raises:
            OSError: a directory cannot be made.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for directory in (self.logs, self.gateway, self.pods, self.pvcs, self.images):
            directory.mkdir(exist_ok=True)
