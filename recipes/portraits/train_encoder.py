"""Train the pack's encoder: portrait -> a code of W+ whose picture is the portrait.

Half of every batch are renders, which stand for real photos, half pictures of the generator, whose codes are known. The
loss is that of e4e (Tov et al. 2021) with the pack's own networks in place of LPIPS and ArcFace: squared difference of
pixels, distance in the parser's features, cosine of the embedder, squared deviations of the rows, and for pictures of
the generator the squared distance to their code.

    python recipes/portraits/train_encoder.py --minutes 30

Interrupt and start again at will: the run goes on from its last checkpoint (runs/encoder).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from situ import open_model
from situ.core.images import from_bytes
from situ.core.latents import Latents
from situ.packs.pack import Pack
from situ.packs.portraits.networks import EncoderSettings, PortraitEncoder
from training import Flaws, Plan, fit, held_out, plan_from_arguments, report, store, training_renders

PLAN = Plan(name="encoder", minutes=30, batch=16, rate=2e-3)
FLAWS = Flaws(share=0.5, warp=0.3, colour=0.3, noise=0.04, clouds=0.04, blotch=0.2, blur=1.5)
MSE, PERCEPTUAL, IDENTITY, DEVIATION, CODE = 4.0, 4.0, 0.5, 2e-3, 2e-2  # weights of the losses


def pictures_of(pack: Pack, codes: Float[Tensor, "n rows w"]) -> Float[Tensor, "n 3 h w"]:
    space = pack.generator.spaces["w+"]
    return pack.generator.synthesize(Latents(codes.flatten(1), space)).images


def losses(pack: Pack, found: Tensor, wanted: Tensor) -> dict[str, Float[Tensor, " n"]]:
    """How far pictures are from those wanted."""
    assert pack.embed is not None
    mse = (found - wanted).square().mean(dim=(1, 2, 3))
    identity = 1 - (pack.embed(found) * pack.embed(wanted)).sum(dim=1)
    return {"mse": mse, "perceptual": pack.distance.between(found, wanted), "identity": identity}


def settings_for(pack: Pack) -> EncoderSettings:
    space = pack.generator.spaces["w+"]
    return EncoderSettings(len(space.slices), space.slices[0].size)


def main() -> None:
    plan = plan_from_arguments(__doc__, PLAN)
    pack = open_model("portraits")
    renders = training_renders(plan)
    space = pack.generator.spaces["w+"]
    network = PortraitEncoder(settings_for(pack))
    network.w_avg.copy_(pack.generator.mapping.w_avg)  # pyright: ignore[reportAttributeAccessIssue]
    half = plan.batch // 2

    def loss_of(network: PortraitEncoder, rng: torch.Generator) -> Tensor:
        rendered = from_bytes(renders.images[renders.draw(half, rng)])
        with torch.no_grad():
            truncation = float(0.6 + 0.4 * torch.rand(1, generator=rng))
            drawn = pack.generator.sample(plan.batch - half, space, rng, truncation)
            generated = pack.generator.synthesize(drawn).images.clamp(-1, 1)
        wanted = torch.cat([rendered, generated])
        base, deviations = network.parts(FLAWS.spoil(wanted, rng))
        codes = base + deviations
        each = losses(pack, pictures_of(pack, codes), wanted)
        loss = MSE * each["mse"].mean() + PERCEPTUAL * each["perceptual"].mean() + IDENTITY * each["identity"].mean()
        known = drawn.values.unflatten(1, (len(space.slices), -1))
        code = (codes[half:] - known).square().mean()
        return loss + DEVIATION * deviations.square().mean() + CODE * code

    network = fit(network, loss_of, plan)
    store(network, plan.name, {})
    test = from_bytes(held_out(500, plan.renders).images)
    with torch.no_grad():
        parts = [losses(pack, pictures_of(pack, network(some)), some) for some in test.split(50)]
        deviations = torch.cat([network.parts(some)[1] for some in test.split(50)])
    figures = {name: round(torch.cat([part[name] for part in parts]).mean().item(), 5) for name in parts[0]}
    report({"held_out_portraits": len(test), **figures, "deviation": round(deviations.std().item(), 4)}, plan.name)


if __name__ == "__main__":
    main()
