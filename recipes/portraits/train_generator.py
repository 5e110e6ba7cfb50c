"""Train a StyleGAN2 on rendered portraits, or on any folder of square pictures (`--images FOLDER`).

Non-saturating logistic loss, R1 on reals every 16th step, exponential moving average of the weights, style mixing.
The two updates share one pass over the generated pictures: the discriminator is run once on them, and backwards once
for the generator's loss (to the pictures only) and once for its own, which saves two forward passes a step.

    python recipes/portraits/train_generator.py --minutes 150 --out runs/generator

Interrupt and start again at will: the run goes on from its last checkpoint. `generator.safetensors` in the same folder
is the averaged generator, for `situ ... --model runs/generator/generator.safetensors`.
"""

import argparse
import copy
import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from discriminator import Discriminator
from situ.checkpoints.native import save_stylegan2
from situ.core.files import write_whole
from situ.core.images import from_bytes, load_image, save_sheet, to_bytes
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings
from situ.packs.portraits.renderer import render, sample_factors


def rendered_pictures(count: int, resolution: int, seed: int) -> Tensor:
    """(count, 3, r, r) bytes."""
    rng = torch.Generator().manual_seed(seed)
    chunks = [
        to_bytes(render(sample_factors(min(500, count - i), rng), resolution).images) for i in range(0, count, 500)
    ]
    return torch.cat(chunks)


def folder_pictures(folder: Path, resolution: int) -> Tensor:
    """Every picture of a folder, centre-cropped to a square and resized, and its mirror image."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
    if not paths:
        raise SystemExit(f"{folder} holds no .png, .jpg or .webp pictures")
    pictures = torch.cat([to_bytes(load_image(p, resolution)) for p in paths])
    return torch.cat([pictures, pictures.flip(-1)])


def sample_ws(network: StyleGAN2Network, n: int, mixing: float) -> Tensor:
    """W+ codes of n new samples; a share `mixing` of them takes its later rows from a second w."""
    rows = network.settings.num_ws
    w = network.mapping(torch.randn(2 * n, network.settings.z_dim)).float()
    with torch.no_grad():
        network.mapping.w_avg.lerp_(w.mean(dim=0), 1 - 0.995)
    crossover = torch.where(torch.rand(n) < mixing, torch.randint(1, rows, [n]), rows)
    second = torch.arange(rows)[None, :] >= crossover[:, None]
    return torch.where(second[:, :, None], w[n:, None], w[:n, None])


def train(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    torch.set_flush_denormal(True)
    dtype = torch.float32 if arguments.fp32 else torch.bfloat16
    settings = StyleGAN2Settings(
        resolution=arguments.resolution,
        z_dim=arguments.latent,
        w_dim=arguments.latent,
        mapping_layers=arguments.mapping_layers,
        channel_base=arguments.channel_base,
        channel_max=arguments.channel_max,
    )
    generator, discriminator = (
        StyleGAN2Network(settings),
        Discriminator(settings.resolution, arguments.d_base, arguments.channel_max),
    )
    average = copy.deepcopy(generator).requires_grad_(False)
    betas, r1_every = (0.0, 0.99), 16
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=arguments.lr, betas=betas, eps=1e-8)
    lazy = r1_every / (r1_every + 1)
    d_optimizer = torch.optim.Adam(
        discriminator.parameters(), lr=arguments.lr * lazy, betas=(0.0, 0.99**lazy), eps=1e-8
    )
    seen, spent = 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        generator.load_state_dict(saved["generator"])
        discriminator.load_state_dict(saved["discriminator"])
        average.load_state_dict(saved["average"])
        g_optimizer.load_state_dict(saved["g_optimizer"])
        d_optimizer.load_state_dict(saved["d_optimizer"])
        seen, spent = saved["seen"], saved["spent"]
        torch.manual_seed(arguments.seed + seen)
    for optimizer, rate in ((g_optimizer, arguments.lr), (d_optimizer, arguments.lr * lazy)):
        for group in optimizer.param_groups:
            group["lr"] = rate
    if arguments.images:
        pictures = folder_pictures(Path(arguments.images), settings.resolution)
    else:
        rendered = out / f"pictures-{arguments.pictures}-{settings.resolution}px-{arguments.seed}.pt"
        if not rendered.exists():
            drawn = rendered_pictures(arguments.pictures, settings.resolution, arguments.seed)
            write_whole(rendered, lambda place: torch.save(drawn, place))
        pictures = torch.load(rendered, weights_only=True)
    print(f"{len(pictures)} pictures, {sum(p.numel() for p in generator.parameters()):,} parameters", flush=True)
    gamma = arguments.r1 if arguments.r1 is not None else 0.0002 * settings.resolution**2 / arguments.batch
    fixed = torch.randn(64, settings.z_dim, generator=torch.Generator().manual_seed(1))
    n, step, start, logged = arguments.batch, 0, time.monotonic(), {}

    def save() -> None:
        state = {
            "settings": asdict(settings),
            "generator": generator.state_dict(),
            "discriminator": discriminator.state_dict(),
            "average": average.state_dict(),
            "g_optimizer": g_optimizer.state_dict(),
            "d_optimizer": d_optimizer.state_dict(),
            "seen": seen,
            "spent": spent + time.monotonic() - start,
        }
        write_whole(checkpoint, lambda place: torch.save(state, place))
        save_stylegan2(average, out / "generator.safetensors", noise="none")
        with torch.no_grad():
            w = average.mapping(fixed)
            w = average.mapping.w_avg + 0.7 * (w - average.mapping.w_avg)
            sheet = average(w[:, None].expand(-1, settings.num_ws, -1))
        save_sheet(sheet, out / f"sheet-{seen // 1000:05d}k.png", columns=8)

    saved_at = start
    while time.monotonic() - start < arguments.minutes * 60:
        real = from_bytes(pictures[torch.randint(len(pictures), [n])])
        fake = generator(sample_ws(generator, n, arguments.mixing), dtype)
        seen_by_d = fake.detach().requires_grad_()
        d_fake, d_real = discriminator(seen_by_d, dtype), discriminator(real, dtype)
        g_loss = functional.softplus(-d_fake).mean()
        (to_generator,) = torch.autograd.grad(g_loss, seen_by_d, retain_graph=True)
        loss = functional.softplus(d_fake).mean() + functional.softplus(-d_real).mean()
        d_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if step % r1_every == 0:
            real.requires_grad_()
            (gradient,) = torch.autograd.grad(discriminator(real, dtype).sum(), real, create_graph=True)
            penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
            (penalty * (gamma / 2 * r1_every)).backward()
            logged["r1"] = penalty.item()
        g_optimizer.zero_grad(set_to_none=True)
        fake.backward(to_generator)
        d_optimizer.step()
        g_optimizer.step()
        seen, step = seen + n, step + 1
        half_life = min(arguments.ema, max(seen * 0.05, 1))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), generator.parameters(), strict=True):
                mean.lerp_(value, 1 - 0.5 ** (n / half_life))
            average.mapping.w_avg.copy_(generator.mapping.w_avg)
        if step % 100 == 0:
            logged |= {"d": loss.item(), "real": d_real.mean().item(), "fake": d_fake.mean().item()}
            if not math.isfinite(loss.item()):
                raise SystemExit(f"the loss is {loss.item()} after {seen} pictures: lower --lr or raise --r1")
            rate = step * n / (time.monotonic() - start)
            figures = "  ".join(f"{k} {v:.3f}" for k, v in logged.items())
            print(f"{seen:>8} pictures  {rate:.1f}/s  {figures}", flush=True)
        if time.monotonic() - saved_at > arguments.save_minutes * 60:
            save()
            saved_at = time.monotonic()
    save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/generator", help="folder of checkpoints and sample sheets")
    parser.add_argument("--images", help="folder of pictures to learn instead of rendered portraits")
    parser.add_argument("--pictures", type=int, default=40_000, help="how many portraits to render beforehand")
    parser.add_argument("--minutes", type=float, default=150, help="stop after this long")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--resolution", type=int, default=64, help="pixels, a power of two")
    parser.add_argument("--latent", type=int, default=128, help="width of z and w")
    parser.add_argument("--mapping-layers", type=int, default=4)
    parser.add_argument("--channel-base", type=int, default=2048)
    parser.add_argument("--channel-max", type=int, default=128)
    parser.add_argument("--d-base", type=int, default=2048, help="channel base of the discriminator")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--r1", type=float, help="weight of R1 (default 0.0002 resolution^2 / batch)")
    parser.add_argument("--mixing", type=float, default=0.5, help="share of samples with mixed styles")
    parser.add_argument("--ema", type=float, default=5000, help="half-life of the weights' average, in pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fp32", action="store_true", help="full precision (bf16 is twice as fast)")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
