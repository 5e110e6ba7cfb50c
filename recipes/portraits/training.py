"""What the recipes of the frozen networks share: renders, a generator's flaws, the loop, stored weights."""

import argparse
import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from situ.core.files import write_whole
from situ.core.images import from_bytes, resize, to_bytes
from situ.packs.portraits import networks, renderer
from situ.packs.portraits.networks import SIZE
from situ.packs.portraits.renderer import FACTORS, PARTS

PACK = Path(networks.__file__).parent
HELD_OUT_SEED = 1_000_003  # never a training seed

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Renders:
    """Portraits as bytes, with their parts' coverage (255 is all of a pixel) and factors."""

    images: UInt8[Tensor, "n 3 64 64"]
    masks: UInt8[Tensor, "n p 64 64"]
    factors: Float[Tensor, "n f"]

    def batch(self, rows: Tensor) -> tuple[Float[Tensor, "b 3 64 64"], Float[Tensor, "b p 64 64"]]:
        """Pictures in [-1, 1] and soft masks that sum to 1."""
        masks = self.masks[rows].float()
        return from_bytes(self.images[rows]), masks / masks.sum(dim=1, keepdim=True)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """The numbers of `n` random portraits."""
        return torch.randint(len(self.images), [n], generator=rng)


def rendered(factors: Float[Tensor, "n f"], folder: Path, with_masks: bool = True) -> Renders:
    """Render the factors, or read them back if the same renderer has rendered them before."""
    probe = renderer.render(factors[:8], SIZE).images  # tells one renderer from another
    known = to_bytes(probe).numpy().tobytes() + factors.numpy().tobytes() + bytes([with_masks])
    key = hashlib.sha256(known).hexdigest()[:16]
    path = folder / f"{key}.safetensors"
    if not path.exists():
        start, images, masks = time.monotonic(), [], []
        for chunk in factors.split(500):
            rendering = renderer.render(chunk, SIZE)
            images.append(to_bytes(rendering.images))
            parts = len(PARTS) if with_masks else 0
            masks.append((rendering.masks[:, :parts] * 255).round().to(torch.uint8))
            done = sum(len(each) for each in images)
            print(f"rendered {done} of {len(factors)}, {time.monotonic() - start:.0f} s", flush=True)
        tensors = {"images": torch.cat(images), "masks": torch.cat(masks), "factors": factors.contiguous()}
        write_whole(path, lambda temporary: save_file(tensors, temporary))
    return Renders(**load_file(path))


@dataclass(frozen=True)
class Flaws:
    """What a generator's picture may have and a render has not. Lengths are fractions of its side."""

    share: float = 0.6  # of the pictures that get flaws at all
    warp: float = 1.0  # strength of shift, scale, rotation and elastic waves
    colour: float = 1.0  # strength of gain, offset, contrast and saturation
    shift: float = 0.05
    zoom: float = 0.08
    roll: float = 0.10  # radians
    waves: float = 0.012  # deviation of the elastic field
    blur: float = 3.0  # largest factor of the down-up sampling
    noise: float = 0.10  # largest deviation of white noise, pictures being in [-1, 1]
    clouds: float = 0.12  # largest deviation of low-frequency noise
    blotch: float = 0.5  # largest opacity of a soft blotch

    def spoil(self, images: Float[Tensor, "n 3 h w"], rng: torch.Generator) -> Float[Tensor, "n 3 h w"]:
        """Give a share of the pictures flaws."""
        return self.spoil_masked(images, images[:, :0], rng)[0]

    def spoil_masked(
        self, images: Float[Tensor, "n 3 h w"], masks: Float[Tensor, "n p h w"], rng: torch.Generator
    ) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n p h w"]]:
        """Give a share of the pictures flaws; the warp moves the masks along."""
        chosen = torch.rand(len(images), generator=rng) < self.share
        if not chosen.any():
            return images, masks
        warped = self._warped(torch.cat([images[chosen], masks[chosen]], dim=1), rng)
        spoilt = self._coloured(self._blotched(warped[:, :3], rng), rng)
        spoilt = self._noisy(self._blurred(spoilt, rng), rng).clamp(-1, 1)
        place = chosen.nonzero()[:, 0]
        return images.index_copy(0, place, spoilt), masks.index_copy(0, place, warped[:, 3:])

    def _warped(self, stack: Tensor, rng: torch.Generator) -> Tensor:
        n, _, height, width = stack.shape
        roll, zoom = self.warp * self.roll * _spread(n, rng), 1 + self.warp * self.zoom * _spread(n, rng)
        shift = 2 * self.warp * self.shift * (2 * torch.rand(n, 2, generator=rng) - 1)
        cosine, sine = torch.cos(roll) * zoom, torch.sin(roll) * zoom
        affine = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).view(n, 2, 3)
        grid = functional.affine_grid(affine, [n, 1, height, width], align_corners=False)
        waves = 2 * self.warp * self.waves * torch.randn(n, 2, 7, 7, generator=rng) * _level(n, rng)
        waves = functional.interpolate(waves, (height, width), mode="bicubic", align_corners=False)
        grid = grid + waves.permute(0, 2, 3, 1)
        return functional.grid_sample(stack, grid, padding_mode="border", align_corners=False)

    def _blotched(self, images: Tensor, rng: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        y = torch.linspace(0, 1, height).view(1, -1, 1)
        x = torch.linspace(0, 1, width).view(1, 1, -1)
        for _ in range(2):
            row, column, size = (torch.rand(n, 1, 1, generator=rng) for _ in range(3))
            size = 0.03 + 0.15 * size * size
            bump = torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * size * size))[:, None]
            colour = 2 * torch.rand(n, 3, 1, 1, generator=rng) - 1
            images = torch.lerp(images, colour.expand_as(images), self.blotch * _level(n, rng) * bump)
        return images

    def _coloured(self, images: Tensor, rng: torch.Generator) -> Tensor:
        n, strength = len(images), self.colour
        grey = images.mean(dim=1, keepdim=True)
        images = torch.lerp(grey, images, 1 + 0.4 * strength * _spread(n, rng).view(n, 1, 1, 1))
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images = torch.lerp(middle, images, 1 + 0.25 * strength * _spread(n, rng).view(n, 1, 1, 1))
        gain = 1 + 0.12 * strength * (2 * torch.rand(n, 3, 1, 1, generator=rng) - 1)
        offset = 0.10 * strength * (2 * torch.rand(n, 3, 1, 1, generator=rng) - 1)
        return images * gain + offset + 0.12 * strength * _spread(n, rng).view(n, 1, 1, 1)

    def _blurred(self, images: Tensor, rng: torch.Generator) -> Tensor:
        factor = 1 + (self.blur - 1) * float(torch.rand(1, generator=rng)) ** 1.5
        size = round(images.shape[-1] / factor)
        blurred = functional.interpolate(resize(images, size), images.shape[-2:], mode="bilinear")
        return torch.lerp(images, blurred, _level(len(images), rng).sqrt())

    def _noisy(self, images: Tensor, rng: torch.Generator) -> Tensor:
        n = len(images)
        white = torch.randn(images.shape, generator=rng)
        cells = torch.randn(n, 3, 9, 9, generator=rng)
        clouds = functional.interpolate(cells, images.shape[-2:], mode="bicubic", align_corners=False)
        return images + self.noise * _level(n, rng) * white + self.clouds * _level(n, rng) * clouds


def _spread(n: int, rng: torch.Generator) -> Float[Tensor, "n"]:
    """Uniform in [-1, 1]."""
    return 2 * torch.rand(n, generator=rng) - 1


def _level(n: int, rng: torch.Generator) -> Float[Tensor, "n 1 1 1"]:
    """How much of a flaw each picture gets: nothing in a third of them, else more often little than much."""
    return ((torch.rand(n, 1, 1, 1, generator=rng) - 1 / 3).clamp(min=0) * 1.5) ** 1.5


@dataclass(frozen=True)
class Plan:
    """How long and how to train one network."""

    name: str  # of the weights: <name>.safetensors in the pack
    minutes: float  # wall clock, evaluation and rendering apart
    batch: int  # pictures a step
    rate: float  # highest learning rate
    seed: int = 0
    threads: int = 2
    save_minutes: float = 1.0
    runs: Path = Path("runs")  # checkpoints and renders
    pictures: int = 20_000  # to render for training
    fp32: bool = False  # full precision (bf16 is twice as fast)

    @property
    def renders(self) -> Path:
        return self.runs / "renders"


def plan_from_arguments(description: str | None, plan: Plan) -> Plan:
    """The plan with what the command line changes of it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="stop after this long")
    parser.add_argument("--pictures", type=int, help="how many portraits to render beforehand")
    parser.add_argument("--batch", type=int, help="pictures a step")
    parser.add_argument("--rate", type=float, help="highest learning rate")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--save-minutes", type=float, help="time between checkpoints")
    parser.add_argument("--runs", type=Path, help="folder of checkpoints and renders")
    parser.add_argument("--fp32", action="store_true", default=None, help="full precision (half the speed)")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    plan = replace(plan, **given)
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    return plan


def rate_at(progress: float) -> float:
    """Share of the highest learning rate: a short rise, then half a cosine down to 1 %."""
    return min(progress / 0.04, 1.0) * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))))


def average_into(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the average's weights and statistics a share of the way to the network's."""
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)


def fit(network: Network, loss_of: Callable[[Network, torch.Generator], Tensor], plan: Plan) -> Network:
    """Train for `plan.minutes`, from the last checkpoint on; returns the averaged network, ready to use."""
    checkpoint = plan.runs / plan.name / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=0.02)
    seen, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        seen, spent = saved["seen"], saved["spent"]
        print(f"going on after {seen} pictures and {spent / 60:.1f} minutes", flush=True)
    rng = torch.Generator().manual_seed(plan.seed + seen)
    network.train()
    budget, last = plan.minutes * 60, time.monotonic()
    saved_at = printed_at = last
    total, steps = 0.0, 0

    def save() -> None:
        state = {
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "seen": seen,
            "spent": spent,
        }
        write_whole(checkpoint, lambda path: torch.save(state, path))

    while spent < budget:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * rate_at(spent / budget)
        with torch.autocast("cpu", torch.bfloat16, enabled=not plan.fp32):
            loss = loss_of(network, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        seen, total, steps = seen + plan.batch, total + loss.item(), steps + 1
        average_into(average, network, 1 - 0.5 ** (plan.batch / max(0.03 * seen, 1)))
        now = time.monotonic()
        spent, last = spent + now - last, now
        if now - printed_at > 15 or spent >= budget:
            print(f"{spent / 60:5.1f} min  {seen:>8} pictures  loss {total / steps:.4f}", flush=True)
            if not math.isfinite(total):
                raise SystemExit("the loss is not finite: lower --rate")
            printed_at, total, steps = now, 0.0, 0
        if now - saved_at > plan.save_minutes * 60 or spent >= budget:
            save()
            saved_at = now
    return average.eval()


def store(network: nn.Module, name: str, labels: dict[str, Any]) -> Path:
    """Write the weights into the pack: convolutions and matrices in half precision, the rest as it is."""
    state = network.state_dict()
    tensors = {key: (value.half() if value.ndim > 1 else value).contiguous() for key, value in state.items()}
    settings: Any = network.settings
    metadata = {"settings": json.dumps(asdict(settings)), "labels": json.dumps(labels)}
    path = PACK / f"{name}.safetensors"
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))
    return path


def restore(network: Network, path: Path) -> Network:
    """Fill a network built from the default settings with stored weights; ready for use."""
    with safe_open(path, "pt") as file:
        stored = json.loads(file.metadata()["settings"])
    settings: Any = network.settings
    if stored != json.loads(json.dumps(asdict(settings))):
        raise SystemExit(f"{path} was trained with {stored}, the network is built for {asdict(settings)}")
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)


def report(figures: dict[str, Any], name: str) -> None:
    """Print the held-out figures as JSON and write them beside the weights."""
    text = json.dumps(figures, indent=2)

    def write(path: Path) -> None:
        path.write_text(text + "\n")

    write_whole(PACK / f"{name}.json", write)
    print(text)


def rounded(values: Tensor, names: list[str]) -> dict[str, float]:
    """Names with their values, to four digits."""
    return {name: round(value, 4) for name, value in zip(names, values.tolist(), strict=True)}


def held_out(count: int, folder: Path) -> Renders:
    """Portraits that no training has seen."""
    return rendered(renderer.sample_factors(count, torch.Generator().manual_seed(HELD_OUT_SEED)), folder)


def training_renders(plan: Plan) -> Renders:
    """The portraits that parser and predictor learn from (one rendering for both)."""
    rng = torch.Generator().manual_seed(plan.seed)
    return rendered(renderer.sample_factors(plan.pictures, rng), plan.renders)


def column(name: str) -> int:
    """The place of a factor among FACTORS."""
    return [factor.name for factor in FACTORS].index(name)
