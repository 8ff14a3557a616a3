"""`make demo`: forty real models on two pods that hold about ten each, behind Envoy, and an update under load.

Trains the models, starts an embedded cluster, serves the getting-started example over REST and gRPC, plays traffic
whose every answer is checked, has Dagster roll three versions of a model out under traffic, and ends with tables. Stops
what it started unless told to `--keep` it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from capacity import Capacity, measure
from manifests import INFER_BODY, isvc
from rich.console import Console
from rich.live import Live
from rich.progress import track
from rich.table import Table
from rollouts import RATE as ROLLOUT_RATE
from rollouts import as_it_should, roll_out, table_of
from traffic import Client, Tally, milliseconds, percentile, zipf_weights
from train import Model, train, train_svm

MODELS = 40
RATE = 200.0
"""The most requests a second that are offered."""
MEASURED = 5
"""Models loaded to measure the machine."""
TRAFFIC_SECONDS = 40.0
UPDATE_SECONDS = 12.0
POD_MEMORY = "168Mi"
"""128 MiB of it are the runtime's buffer; the rest holds ten models, of 3.7 MiB each."""

console = Console(highlight=False)
SHOAL = str(Path(sys.executable).with_name("shoal"))


class Demo:
    """One run."""

    def __init__(self, options: argparse.Namespace, state_dir: Path) -> None:
        self.options = options
        self.state_dir = state_dir
        self.grpc = f"127.0.0.1:{options.grpc_port}"
        self.rest = f"http://127.0.0.1:{options.rest_port}"

    def shoal(self, *arguments: str, text: str | None = None, show: bool = True, quiet: bool = False) -> str:
        """Run a `shoal` command as a user would, and show it."""
        if show:
            console.print(f"[bold]$ shoal {' '.join(arguments)}[/]")
        done = subprocess.run(
            [SHOAL, *arguments, "--state-dir", str(self.state_dir)],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            console.print(done.stdout + done.stderr, markup=False)
            raise SystemExit(f"`shoal {arguments[0]}` failed")
        if show and not quiet:
            console.print(done.stdout.rstrip(), markup=False)
        return done.stdout

    def run(self) -> int:
        """Everything, in order. Returns the exit status."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            models = self.trained(folder)
            started = time.perf_counter()
            ports = ["--grpc-port", str(self.options.grpc_port), "--rest-port", str(self.options.rest_port)]
            self.shoal("up", "--detach", "--pod-memory", POD_MEMORY, *ports, quiet=True)
            console.print(f"The mesh is up after {time.perf_counter() - started:.1f} s.\n")
            try:
                return self.serve(folder, models)
            finally:
                if self.options.keep:
                    console.print(
                        f"\nIt is still running. Look around: [bold]shoal top --state-dir {self.state_dir}[/]"
                    )
                    console.print(f"See the runs: [bold]python -m dagster_shoal up --state-dir {self.state_dir}[/]")
                    console.print(f"End it: [bold]shoal down --state-dir {self.state_dir}[/]")
                else:
                    self.shoal("down", show=False)
                    shutil.rmtree(self.state_dir, ignore_errors=True)

    def trained(self, folder: Path) -> list[Model]:
        """Train all models."""
        train_svm(folder / "mnist-svm.joblib")
        numbers = track(range(1, MODELS + 1), f"Training {MODELS + 1} models", console=console, transient=True)
        models = [train(number, folder) for number in numbers]
        console.print(f"Trained {MODELS + 1} scikit-learn models on the bundled digits.")
        return models

    def serve(self, folder: Path, models: list[Model]) -> int:
        """The getting-started example, then forty models, then an update."""
        self.shoal("pvc", "create", "my-models-pvc", "--from", str(folder))
        self.shoal("apply", "-f", "-", text=isvc("sklearn-mnist", "mnist-svm.joblib"))
        self.shoal("wait", "isvc", "sklearn-mnist", "--for", "Loaded", "--timeout", "60s")
        self.shoal("get", "isvc")
        self.ask_by_rest()
        self.ask_by_grpc()
        console.print(f"\nDeclaring {MODELS} InferenceServices:")
        text = "---\n".join(isvc(model.name, model.path.name) for model in models)
        self.shoal("apply", "-f", "-", text=text, quiet=True)
        capacity = asyncio.run(self.measured(models))
        client = asyncio.run(self.traffic(models, folder, capacity.mixed_rate(RATE)))
        rate = capacity.hot_rate(ROLLOUT_RATE)
        runs, asked = asyncio.run(roll_out(console, self.state_dir, self.grpc, rate))
        self.summary(client)
        console.print(table_of(runs, asked))
        for failure in asked.tally.failures[:5]:
            console.print(f"[red]{failure}[/]")
        return 1 if client.tally.failures or asked.tally.failures or not as_it_should(runs) else 0

    def ask_by_rest(self) -> None:
        """The request of the getting-started example, with curl where there is one."""
        url = f"{self.rest}/v2/models/sklearn-mnist/infer"
        console.print(f"\n[bold]$ curl -X POST -k {url} -d '{{\"inputs\": [...]}}'[/]")
        if shutil.which("curl"):
            command = ["curl", "-sS", "-X", "POST", "-k", url, "-d", INFER_BODY]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        else:
            with urllib.request.urlopen(url, INFER_BODY.encode()) as response:
                answer = response.read().decode()
        console.print_json(answer)
        assert json.loads(answer)["outputs"][0]["contents"]["int64Contents"] == ["8"], "the digit is an eight"

    def ask_by_grpc(self) -> None:
        """The same request with NVIDIA's client."""
        from tritonclient.grpc import InferenceServerClient, InferInput

        row = json.loads(INFER_BODY)["inputs"][0]["contents"]["fp32_contents"]
        tensor = InferInput("predict", [1, 64], "FP32")
        tensor.set_data_from_numpy(np.array([row], dtype=np.float32))
        client = InferenceServerClient(self.grpc)
        answer = client.infer("sklearn-mnist", [tensor]).as_numpy("predict")
        console.print(f"The same by gRPC with tritonclient: {answer.tolist()}")
        client.close()

    async def measured(self, models: list[Model]) -> Capacity:
        """What this machine can do now."""
        first = models[:MEASURED]
        client = Client(self.grpc, {model.name: [model.expected] for model in first})
        capacity = await measure(client, [model.name for model in first])
        await client.close()
        console.print(
            f"\nThis machine answers {capacity.requests_per_second:,.0f} requests/s of a loaded model now, and one "
            f"that needs a load in {milliseconds(capacity.load_seconds * 1000)}. About half of what it can do "
            f"is asked of it, at most {RATE:g} requests/s."
        )
        return capacity

    async def traffic(self, models: list[Model], folder: Path, rate: float) -> Client:
        """Zipf traffic over all models, then an update of the most used one under load."""
        weights = zipf_weights(len(models))
        names = [model.name for model in models]
        client = Client(self.grpc, {model.name: [model.expected] for model in models})
        self.last_look, self.top = 0.0, {}
        console.print(f"\nZipf traffic, {rate:g} requests/s over {MODELS} models for {TRAFFIC_SECONDS:g} s:")
        with Live(console=console, refresh_per_second=4, transient=True) as live:

            def watch() -> None:
                live.update(self.progress(client.tally))

            await self.watched(client.play(lambda: random.choices(names, weights)[0], TRAFFIC_SECONDS, rate, watch))
        console.print(self.progress(client.tally))
        await self.update(client, models[0], folder, lambda: random.choices(names, weights)[0], rate)
        await client.close()
        return client

    async def watched(self, work: object) -> None:
        """Do `work` and look at the mesh once a second meanwhile."""

        async def look() -> None:
            while True:
                self.top = await asyncio.to_thread(self.look)
                await asyncio.sleep(1)

        looking = asyncio.create_task(look())
        try:
            await work  # type: ignore[misc]
        finally:
            looking.cancel()

    def look(self) -> dict:
        """What `shoal top --json` prints, asked of the mesh itself: a command a second would take half a core."""
        report = json.loads((self.state_dir / "status.json").read_text())
        with urllib.request.urlopen(report["addresses"]["admin"] + "/top", timeout=10) as answer:
            return json.load(answer)

    def progress(self, tally: Tally) -> Table:
        """The live view."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for title in (
            "requests",
            "failures",
            "hits",
            "loads",
            "evictions",
            "hot p50",
            "hot p99",
            "cold p50",
            "cold p99",
        ):
            table.add_column(title, justify="right")
        table.add_row(
            str(tally.requests),
            str(len(tally.failures)),
            f"{tally.hit_ratio:.1%}",
            str(self.top.get("loads", 0)),
            str(self.top.get("evictions", 0)),
            *(milliseconds(percentile(times, p)) for times in (tally.hot, tally.cold) for p in (50, 99)),
        )
        return table

    async def update(self, client: Client, model: Model, folder: Path, pick: object, rate: float) -> None:
        """Change a model's file under load: answers switch from the old revision to the new one, and none fails."""
        number = int(model.name.rsplit("-", 1)[1])
        new = await asyncio.to_thread(train, number, folder, 2)
        shutil.copyfile(new.path, self.state_dir / "pvcs" / "my-models-pvc" / new.path.name)
        client.expected[model.name] = [model.expected, new.expected]
        console.print(f"\nUpdating [bold]{model.name}[/] under load:")
        playing = asyncio.create_task(self.watched(client.play(pick, UPDATE_SECONDS, rate)))  # type: ignore[arg-type]
        await asyncio.sleep(2)
        await asyncio.to_thread(self.shoal, "apply", "-f", "-", text=isvc(model.name, new.path.name))
        await asyncio.to_thread(
            self.shoal, "wait", "isvc", model.name, "--for", "Loaded", "--timeout", "30s", quiet=True
        )
        client.expected[model.name] = [new.expected]
        await playing
        revisions = sorted(name for name in client.tally.answered_by if name.startswith(model.name + "__"))
        console.print(
            f"{model.name} was answered by {' then '.join(revisions)}; failures: {len(client.tally.failures)}"
        )

    def summary(self, client: Client) -> None:
        """The figures of this run."""
        tally, top = client.tally, self.look()
        table = Table(title="Summary", show_header=False, title_justify="left")
        rows = {
            "models": f"{MODELS} declared, on {len(top['pods'])} pods",
            "requests": f"{tally.requests:,}",
            "failures": str(len(tally.failures)),
            "hit ratio": f"{tally.hit_ratio:.1%}",
            "loads, evictions": f"{top['loads']}, {top['evictions']}",
            "hot p50, p99": ", ".join(milliseconds(percentile(tally.hot, p)) for p in (50, 99)),
            "cold p50, p99": ", ".join(milliseconds(percentile(tally.cold, p)) for p in (50, 99)),
            "memory": "\n".join(occupancy(pod) for pod in top["pods"]),
        }
        for name, value in rows.items():
            table.add_row(name, value)
        console.print()
        console.print(table)
        for failure in tally.failures[:5]:
            console.print(f"[red]{failure}[/]")


def occupancy(pod: dict) -> str:
    """How full a pod is."""
    used, capacity = (pod[key] / 2**20 for key in ("usedBytes", "capacityBytes"))
    return f"{pod['pod'][-5:]}: {used:.0f} of {capacity:.0f} MiB, {pod['copies']} models"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--grpc-port", type=int, default=8033)
    parser.add_argument("--rest-port", type=int, default=8008)
    options = parser.parse_args()
    return Demo(options, Path(tempfile.mkdtemp(prefix="shoal-demo-"))).run()


if __name__ == "__main__":
    sys.exit(main())
