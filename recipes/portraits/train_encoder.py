"""Train the pack's encoder: portrait -> a code of W+ whose picture is the portrait.

Half of every batch are renders, which stand for real photos, half pictures of the generator, whose codes are known. The
loss is that of e4e (Tov et al. 2021) with the pack's own networks in place of LPIPS and ArcFace: squared difference of
pixels, distance in the parser's features, cosine of the embedder, squared deviations of the rows. In place of e4e's
discriminator of codes, those of the generator's pictures are asked for themselves: without that, an encoder finds
codes far from any that the generator draws, whose pictures are right and whose edits are not.

    python recipes/portraits/train_encoder.py --minutes 36 --pictures 8000 --threads 1

Interrupt and start again at will: the run goes on from its last checkpoint (runs/encoder).
"""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor

from situ import open_model
from situ.core.images import from_bytes
from situ.core.latents import Latents
from situ.packs.pack import Pack
from situ.packs.portraits.networks import EncoderSettings, PortraitEncoder
from training import Flaws, Plan, fit, held_out, plan_from_arguments, report, store, training_renders

PLAN = Plan(name="encoder", minutes=36, batch=16, rate=2e-3, threads=1, pictures=8000)
FLAWS = Flaws(share=0.5, warp=0.3, colour=0.3, noise=0.04, clouds=0.04, blotch=0.2, blur=1.5)
MSE, PERCEPTUAL, IDENTITY, DEVIATION, CODE = 4.0, 4.0, 0.5, 0.1, 0.3  # weights of the losses
LOOK_EVERY = 300  # steps


def pictures_of(pack: Pack, codes: Float[Tensor, "n rows d"]) -> Float[Tensor, "n 3 h w"]:
    space = pack.generator.spaces["w+"]
    return pack.generator.synthesize(Latents(codes.flatten(1), space)).images


def drawn(
    pack: Pack, n: int, truncation: float, rng: torch.Generator
) -> tuple[Float[Tensor, "n rows d"], Float[Tensor, "n 3 h w"]]:
    """Codes, and their pictures."""
    space = pack.generator.spaces["w+"]
    codes = pack.generator.sample(n, space, rng, truncation).values.unflatten(1, (len(space.slices), -1))
    return codes, pictures_of(pack, codes).clamp(-1, 1)


def losses(pack: Pack, found: Tensor, wanted: Tensor) -> dict[str, Float[Tensor, " n"]]:
    """How far pictures are from those wanted."""
    assert pack.embed is not None
    mse = (found - wanted).square().mean(dim=(1, 2, 3))
    identity = 1 - (pack.embed(found) * pack.embed(wanted)).sum(dim=1)
    return {"mse": mse, "perceptual": pack.distance.between(found, wanted), "identity": identity}


def settings_for(pack: Pack) -> EncoderSettings:
    space = pack.generator.spaces["w+"]
    return EncoderSettings(len(space.slices), space.slices[0].size)


def untrained(pack: Pack) -> PortraitEncoder:
    """An encoder whose codes lie around the mean of W."""
    network = PortraitEncoder(settings_for(pack))
    network.w_avg.copy_(pack.generator.mapping.w_avg)  # pyright: ignore[reportAttributeAccessIssue]
    return network


@torch.no_grad()
def figures(network: PortraitEncoder, pack: Pack, images: Float[Tensor, "n 3 h w"]) -> dict[str, float]:
    """Means over portraits, and what comes of as many pictures of the generator.

    "deviation" is the root mean square of the rows' deviations. "generated_code" is the squared error of known codes
    over their variance: 1 is no better than the mean code.
    """
    was_training = network.training
    network.eval()
    parts, deviations = [], []
    for some in images.split(50):
        base, deviation = network.parts(some)
        parts.append(losses(pack, pictures_of(pack, base + deviation), some))
        deviations.append(deviation)
    codes, generated = drawn(pack, min(len(images), 200), 0.8, torch.Generator().manual_seed(0))
    found = network(generated)
    network.train(was_training)
    seen = {name: torch.cat([part[name] for part in parts]).mean() for name in parts[0]}
    seen["deviation"] = torch.cat(deviations).square().mean().sqrt()
    seen |= {f"generated_{k}": v.mean() for k, v in losses(pack, pictures_of(pack, found), generated).items()}
    seen["generated_code"] = (found - codes).square().mean() / (codes - codes.mean(dim=0)).square().mean()
    return {name: round(value.item(), 4) for name, value in seen.items()}


def loss(
    pack: Pack, network: PortraitEncoder, rendered: Float[Tensor, "n 3 h w"], rng: torch.Generator
) -> Float[Tensor, ""]:
    """Of the renders and of as many pictures of the generator."""
    with torch.no_grad():
        known, generated = drawn(pack, len(rendered), float(0.6 + 0.4 * torch.rand(1, generator=rng)), rng)
    wanted = torch.cat([rendered, generated])
    base, deviations = network.parts(FLAWS.spoil(wanted, rng))
    codes = base + deviations
    each = losses(pack, pictures_of(pack, codes), wanted)
    pictures = MSE * each["mse"].mean() + PERCEPTUAL * each["perceptual"].mean() + IDENTITY * each["identity"].mean()
    code = (codes[len(rendered) :] - known).square().mean()
    return pictures + DEVIATION * deviations.square().mean() + CODE * code


def main() -> None:
    plan = plan_from_arguments(__doc__, PLAN)
    pack = open_model("portraits")
    renders = training_renders(plan)
    test = from_bytes(held_out(500, plan.renders).images)
    step = itertools.count()

    def loss_of(network: PortraitEncoder, rng: torch.Generator) -> Tensor:
        if next(step) % LOOK_EVERY == 0:
            print(f"held out: {figures(network, pack, test[:64])}", flush=True)
        return loss(pack, network, from_bytes(renders.images[renders.draw(plan.batch // 2, rng)]), rng)

    network = fit(untrained(pack), loss_of, plan)
    store(network, plan.name, {})
    report({"held_out_portraits": len(test), **figures(network, pack, test)}, plan.name)


if __name__ == "__main__":
    main()
