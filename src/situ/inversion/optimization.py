"""Inversion by optimisation: codes that are moved until their pictures are the photos.

Abdal, Qin, Wonka, "Image2StyleGAN" (2019) and what came after. All photos share every pass, and each has its own loss,
its own momentum and its own best codes, so that none depends on its neighbours. What does not change, the photos'
features, is computed once.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.containers import Container
from situ.core.errors import InversionError, SituError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter
from situ.core.latents import Latents, parse_subspace
from situ.core.progress import Progress, silent

UNDER_WAY = Container(
    "situ-optimisation-1", "optimisation under way", " as an interrupted inversion leaves it", InversionError
)
SAVE_EVERY = 20  # steps between two states that a killed run goes on from
MEAN_OF = 10_000  # codes whose mean is the start, where the generator has no mean of its own

Term = Callable[[Images, Latents], Float[Tensor, " n"]]  # one loss of pictures and their codes, for each photo


@runtime_checkable
class Distance(Protocol):
    """A perceptual distance between pictures."""

    def against(self, target: Images) -> Callable[[Images], Float[Tensor, " n"]]:
        """The distance from pictures that stay."""
        ...


@dataclass(frozen=True)
class Phase:
    """Steps with the same weights of the losses."""

    steps: int
    weights: Mapping[str, float]  # name of a term -> its weight; 0 and no entry leave it out


@dataclass(frozen=True)
class Schedule:
    """How the codes move: Adam with the paper's defaults."""

    lr: float
    decay: float = 0.8  # of the learning rate
    decay_every: int = 25  # steps

    def rate(self, step: int) -> float:
        return self.lr * self.decay ** (step // self.decay_every)


@dataclass(frozen=True)
class Optimization:
    """Plain optimisation of pixels, a perceptual distance and identity (MAGEC eq. 3 without its own term)."""

    distance: Distance
    embed: Callable[[Images], Float[Tensor, "n e"]] | None = None
    space: Annotated[str, "of the codes: w, w+, s, w+:4-7 (only these rows move)"] = "w+"
    steps: Annotated[int, "optimisation steps"] = 200
    lr: Annotated[float, "learning rate of Adam"] = 0.07
    decay: Annotated[float, "of the learning rate, every decay_every steps"] = 0.8
    decay_every: Annotated[int, "steps after which the learning rate has decayed once"] = 25
    mse: Annotated[float, "weight of the squared difference of pixels"] = 0.5
    perceptual: Annotated[float, "weight of the perceptual distance"] = 0.5
    identity: Annotated[float, "weight of identity, 1 - cosine"] = 3e-4
    batch: Annotated[int, "photos in one pass; bounds memory"] = 16
    start: Inverter | None = None  # whose codes to begin with; None: the mean code
    under_way: Path | None = None  # a file that a killed run goes on from

    def __post_init__(self) -> None:
        require_positive("Optimization", steps=self.steps, lr=self.lr, decay_every=self.decay_every, batch=self.batch)

    def invert(
        self, generator: Generator, target: Images, rng: torch.Generator, progress: Progress = silent
    ) -> Inversion:
        """See `Inverter.invert`."""
        phase = Phase(self.steps, {"mse": self.mse, "perceptual": self.perceptual, "identity": self.identity})
        return optimize(
            generator,
            target,
            space=self.space,
            terms=lambda some: image_terms(some, self.distance, self.embed),
            phases=[phase],
            schedule=Schedule(self.lr, self.decay, self.decay_every),
            start=self.start,
            batch=self.batch,
            under_way=self.under_way,
            found_by=described(self),
            rng=rng,
            progress=progress,
        )


def require_positive(owner: str, **values: float | int) -> None:
    """Raises SituError for settings that are not above 0."""
    bad = {name: value for name, value in values.items() if not 0 < value < math.inf}
    if bad:
        raise SituError(f"{owner} settings must be positive, got {bad}")


def described(method: object) -> str:
    """A method and its plain settings in a line."""
    plain = {k: v for k, v in vars(method).items() if isinstance(v, (str, int, float, tuple)) and k != "under_way"}
    return f"{type(method).__name__}({', '.join(f'{k}={v!r}' for k, v in plain.items())})"


def image_terms(
    target: Images, distance: Distance, embed: Callable[[Images], Float[Tensor, "n e"]] | None
) -> dict[str, Term]:
    """The losses of pictures: "mse", "perceptual" and, with an embedder of unit vectors, "identity"."""
    far = distance.against(target)
    terms: dict[str, Term] = {
        "mse": lambda images, latents: (images - target).square().mean(dim=(1, 2, 3)),
        "perceptual": lambda images, latents: far(images),
    }
    if embed is not None:
        with torch.no_grad():
            who = embed(target)
        terms["identity"] = lambda images, latents: 1 - (embed(images) * who).sum(dim=1)
    return terms


def mean_latents(generator: Generator, space: str, n: int) -> Latents:
    """The mean code, n times over: that of truncation 0, or of many samples where truncation does not lead there."""
    wanted = generator.spaces[space]
    with torch.no_grad():
        rng = torch.Generator().manual_seed(0)
        if "w" in generator.spaces:
            one = generator.sample(1, wanted, rng, 0.0)
            return one.repeat(n)
        codes = generator.sample(MEAN_OF, wanted, rng)
        return replace(codes[:1], values=codes.values.mean(dim=0, keepdim=True)).repeat(n)


def optimize(
    generator: Generator,
    target: Images,
    *,
    space: str,
    terms: Callable[[Images], Mapping[str, Term]],
    phases: Sequence[Phase],
    schedule: Schedule,
    start: Inverter | None,
    batch: int,
    under_way: Path | None,
    found_by: str,
    rng: torch.Generator,
    progress: Progress = silent,
) -> Inversion:
    """Move codes along the gradient of weighted losses, photos in batches that share each pass.

    Each photo keeps the codes with the lowest loss of the last phase. Ctrl-C keeps the best so far (of photos not yet
    begun, the start). Memory: the graph of one batch.

    Args:
        terms: makes the losses of some photos, by name.
        start: gives the first codes; None takes the mean code.
        under_way: a file that is written on the way, read when the same work starts again, and removed at its end.
    """
    subspace = parse_subspace(space, generator.spaces)
    if start is None:
        first = mean_latents(generator, subspace.space.name, len(target))
    else:
        first = generator.convert(start.invert(generator, target, rng).latents, subspace.space)
    work = [_Run(generator, subspace, first[i : i + batch], target[i : i + batch], terms, phases, schedule)
            for i in range(0, len(target), batch)]  # fmt: skip
    total, done, complete = sum(phase.steps for phase in phases) * len(work), 0, True
    key = work_key(generator, target, found_by)
    if under_way is not None and under_way.exists():
        done = _read_state(under_way, key, work)
    try:
        for run in work:
            while not run.finished:
                loss = run.step()
                done += 1
                progress(done, total, f"loss {loss:.4f}")
                if under_way is not None and done % SAVE_EVERY == 0:
                    _write_state(under_way, key, work)
    except KeyboardInterrupt:
        if done == 0 and start is None:
            raise
        complete = False
    if under_way is not None and complete:
        under_way.unlink(missing_ok=True)
    return _gathered(work, generator, found_by, complete)


class _Run:
    """The optimisation of one batch of photos."""

    def __init__(
        self,
        generator: Generator,
        subspace: Any,
        first: Latents,
        target: Images,
        terms: Callable[[Images], Mapping[str, Term]],
        phases: Sequence[Phase],
        schedule: Schedule,
    ) -> None:
        self.generator, self.subspace, self.first, self.target = generator, subspace, first, target
        self.make_terms, self.phases, self.schedule = terms, phases, schedule
        self.terms: Mapping[str, Term] | None = None
        self.moved = torch.zeros(len(first), subspace.dim, device=first.values.device, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.moved], lr=schedule.lr)
        self.count = 0  # steps done
        self.best = self.moved.detach().clone()
        self.best_loss = torch.full([len(first)], torch.inf, device=first.values.device)
        self.history: dict[str, list[Tensor]] = {}

    @property
    def finished(self) -> bool:
        return self.count >= sum(phase.steps for phase in self.phases)

    def _phase(self) -> tuple[Phase, bool]:
        """The phase of the next step, and whether that is its first."""
        begins = 0
        for phase in self.phases:
            if self.count < begins + phase.steps:
                return phase, self.count == begins
            begins += phase.steps
        return self.phases[-1], False

    def latents(self, moved: Tensor) -> Latents:
        return self.first.with_values(self.first.values + self.subspace.lift(moved))

    def _losses(self, moved: Tensor, phase: Phase) -> tuple[dict[str, Tensor], Tensor]:
        if self.terms is None:
            self.terms = self.make_terms(self.target)
        latents = self.latents(moved)
        images = self.generator.synthesize(latents).images
        weights = {name: weight for name, weight in phase.weights.items() if weight and name in self.terms}
        each = {name: self.terms[name](images, latents) for name in weights}
        return each, torch.stack([weight * each[name] for name, weight in weights.items()]).sum(dim=0)

    def _keep(self, moved: Tensor, each: Mapping[str, Tensor], total: Tensor) -> None:
        for name, values in {**each, "total": total}.items():
            self.history.setdefault(name, []).append(values.detach())
        better = total.detach() < self.best_loss
        self.best = torch.where(better[:, None], moved.detach(), self.best)
        self.best_loss = torch.where(better, total.detach(), self.best_loss)

    def step(self) -> float:
        phase, begins = self._phase()
        if begins:  # losses of other weights do not compare
            self.best_loss = torch.full_like(self.best_loss, torch.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.count)
        self.optimizer.zero_grad(set_to_none=True)
        each, total = self._losses(self.moved, phase)
        if not total.isfinite().all():
            bad = (~total.isfinite()).nonzero().flatten().tolist()
            raise InversionError(f"the losses of photos {bad} are not finite at step {self.count + 1}: lower lr")
        total.sum().backward()
        self._keep(self.moved, each, total)
        self.optimizer.step()
        self.count += 1
        return float(total.detach().mean())

    def result(self) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Codes, their losses, and the history (steps, n), with the losses of the last codes where they are best."""
        last = self.phases[-1]
        with torch.no_grad():
            each, total = self._losses(self.moved, last)
            if self.count and total.isfinite().all():
                self.best = torch.where((total < self.best_loss)[:, None], self.moved.detach(), self.best)
            each, total = self._losses(self.best, last)
        length = max((len(rows) for rows in self.history.values()), default=0)
        history = {}
        for name, rows in self.history.items():  # a term that an earlier phase leaves out has no values there
            missing = [torch.full_like(rows[0], torch.nan)] * (length - len(rows))
            history[name] = torch.stack([*missing, *rows])
        return self.latents(self.best).values, {**each, "total": total}, history

    def state(self) -> dict[str, Tensor]:
        moments = self.optimizer.state.get(self.moved, {})
        tensors = {"moved": self.moved.detach(), "best": self.best, "best_loss": self.best_loss}
        tensors |= {f"adam.{name}": value for name, value in moments.items()}
        tensors |= {f"history.{name}": torch.stack(rows) for name, rows in self.history.items()}
        return {**tensors, "count": torch.tensor(self.count), "first": self.first.values}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self.moved.copy_(tensors["moved"])
        self.best, self.best_loss = tensors["best"], tensors["best_loss"]
        self.count = int(tensors["count"])
        self.first = self.first.with_values(tensors["first"])
        self.history = {
            key.removeprefix("history."): list(rows) for key, rows in tensors.items() if key.startswith("history.")
        }
        moments = {key.removeprefix("adam."): value for key, value in tensors.items() if key.startswith("adam.")}
        if moments:
            self.optimizer.state[self.moved] = moments


def work_key(generator: Generator, target: Images, found_by: str) -> str:
    """What an optimisation under way belongs to: its generator, photos and settings."""
    digest = hashlib.sha256(f"{generator.name} {found_by}".encode())
    digest.update(target.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write_state(path: Path, key: str, work: Sequence[_Run]) -> None:
    tensors = {f"{i}.{name}": value for i, run in enumerate(work) for name, value in run.state().items()}
    UNDER_WAY.write(path, {"key": key}, tensors)


def _read_state(path: Path, key: str, work: Sequence[_Run]) -> int:
    """Put the runs where the file left them; returns the steps that are done."""

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
        if header["key"] != key:
            raise ValueError("it belongs to other photos, settings or weights: remove it, or name another file")
        for i, run in enumerate(work):
            own = {k.removeprefix(f"{i}."): v for k, v in tensors.items() if k.startswith(f"{i}.")}
            run.restore({name: value.to(run.moved.device) for name, value in own.items()})
        return sum(run.count for run in work)

    return UNDER_WAY.read(path, build)


def _gathered(work: Sequence[_Run], generator: Generator, found_by: str, complete: bool) -> Inversion:
    """The batches as one inversion; the histories of those that were cut short are filled up with NaN."""
    parts = [run.result() for run in work]
    losses = {name: torch.cat([part[1][name] for part in parts]) for name in parts[0][1]}
    history = {}
    for name in {name for part in parts for name in part[2]}:
        length = max(len(part[2][name]) for part in parts if name in part[2])
        columns = []
        for run, part in zip(work, parts, strict=True):
            rows = part[2].get(name, torch.empty(0, len(run.first), device=run.moved.device))
            columns.append(torch.cat([rows, rows.new_full((length - len(rows), rows.shape[1]), torch.nan)]))
        history[name] = torch.cat(columns, dim=1)
    values = torch.cat([part[0] for part in parts])
    labels = None if work[0].first.labels is None else torch.cat([run.first.labels for run in work])  # pyright: ignore
    latents = Latents(values, work[0].first.space, labels)
    return Inversion(latents, generator.name, found_by, losses, history, complete=complete)
