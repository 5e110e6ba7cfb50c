"""Work on the processes of this machine, or on a cluster: Ray starts the workers, hands out devices, and tries a batch
again elsewhere when its worker dies.

The workers of a cluster see the same files under the same paths as the machine that the command runs on.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from situ.core.errors import ModelError, SituError
from situ.core.progress import Progress
from situ.runs.engine import Batch
from situ.runs.folder import RunFolder
from situ.runs.work import Report, Work
from situ.runs.worker import Worker

RETRIES = 2  # of a batch whose worker died


@dataclass(frozen=True)
class RayWorkers:
    """Workers that Ray keeps."""

    device: str
    workers: int | None = None  # None: one for each GPU of the cluster, or else for each core
    address: str | None = None  # of a cluster; None: this machine

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SituError(f"workers are a number from 1, got {self.workers}")

    def reports(
        self, work: Work, folder: RunFolder, batches: Sequence[Batch], progress: Progress, say: Callable[[str], None]
    ) -> Iterator[list[Report]]:
        """See `Way.reports`."""
        if not batches:
            return
        ray = _ray()
        self._connect(ray)
        try:
            yield from self._reports(ray, work, folder, batches, say)
        finally:
            ray.shutdown()

    def _connect(self, ray: Any) -> None:
        """Start Ray here, or find the cluster. Raises SituError where there is none."""
        quiet = {"logging_level": "error", "log_to_driver": False}
        try:
            if self.address is None:
                ray.init(address="local", num_cpus=max(os.cpu_count() or 1, self.workers or 1), include_dashboard=False,
                         _node_ip_address="127.0.0.1", **quiet)  # fmt: skip
            else:
                ray.init(address=self.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            place = self.address or "this machine"
            raise SituError(
                f"Ray cannot be reached at {place} ({words}): `ray start --head` starts it; one that asks for a "
                "token takes RAY_AUTH_MODE=token"
            ) from None

    def _shares(self, ray: Any, batches: int) -> tuple[int, dict[str, int | float]]:
        """How many workers there are, and what of the machines each holds."""
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0)) if self.device == "auto" or self.device.startswith("cuda") else 0
        cores = max(1, int(there.get("CPU", 1)))
        workers = min(self.workers or gpus or cores, batches)
        share: dict[str, int | float] = {"num_cpus": max(1, cores // workers) if workers <= cores else cores / workers}
        if gpus:
            share["num_gpus"] = max(1, gpus // workers) if workers <= gpus else gpus / workers
        return workers, share

    def _reports(
        self, ray: Any, work: Work, folder: RunFolder, batches: Sequence[Batch], say: Callable[[str], None]
    ) -> Iterator[list[Report]]:
        workers, share = self._shares(ray, len(batches))
        remote = ray.remote(_Remote).options(max_restarts=-1, max_task_retries=RETRIES, **share)
        place = Path(os.path.abspath(folder.out))
        actors = [remote.remote(work, place, self.device, os.getcwd()) for _ in range(workers)]
        waiting, said = iter(batches), set[str]()
        under_way: dict[Any, tuple[Batch, Any]] = {}

        def hand_out(actor: Any) -> None:
            batch = next(waiting, None)
            if batch is not None:
                under_way[actor.do.remote(batch.items, batch.missing)] = (batch, actor)

        for actor in actors:
            hand_out(actor)
        while under_way:
            (ready,), _ = ray.wait(list(under_way), num_returns=1)
            batch, actor = under_way.pop(ready)
            hand_out(actor)
            try:
                reports, notes = ray.get(ready)
            except ray.exceptions.RayActorError:
                reason = f"its worker died {RETRIES + 1} times (killed, or out of memory)"
                reports, notes = [Report(name, reason=reason) for name in sorted(batch.missing)], []
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, SituError) else error) from None
            for note in notes:
                if note not in said:
                    say(note)
                    said.add(note)
            yield reports


class _Remote:
    """A worker's process."""

    def __init__(self, work: Work, out: Path, device: str, folder: str) -> None:
        os.chdir(folder)  # paths are those of the command
        self.worker = Worker(work, RunFolder(out), device)

    def do(self, items: Sequence[Any], missing: frozenset[str]) -> tuple[list[Report], list[str]]:
        reports = self.worker.do(items, missing)
        notes, self.worker.notes = self.worker.notes, []
        return reports, notes


def _ray() -> Any:
    """The module, told to keep to itself. Raises ModelError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ModelError("workers need Ray: pip install 'situ[cluster]'") from None
    return ray
