"""The written-out derivative of StyleGAN2 is its derivative."""

import pytest
import torch
from torch import Tensor
from torch.func import jvp, vmap

from situ.core.latents import Latents, LatentSpace, Subspace, parse_subspace
from situ.generators import stylegan2_tangents
from situ.generators.stylegan2 import StyleGAN2
from toys import tiny_network

SPACES = ("z", "w", "w+", "w:2-4", "w+:5", "s", "s:conv", "s:rgb")


def generator(clamp: float | None = None, dtype: torch.dtype = torch.float64) -> StyleGAN2:
    network = tiny_network(3)
    for module in network.modules():
        if hasattr(module, "clamp"):
            module.clamp = clamp  # pyright: ignore[reportArgumentType]
    made = StyleGAN2(network.to(dtype))
    made._dtypes = [dtype] * len(made._dtypes)
    return made


def codes(made: StyleGAN2, space: LatentSpace, dtype: torch.dtype = torch.float64) -> Latents:
    z = made.sample(1, made.spaces["z"], torch.Generator().manual_seed(0))
    return made.convert(z.with_values(z.values.to(dtype)), space)


def both(made: StyleGAN2, subspace: Subspace, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """The written-out derivative, and torch's."""
    base = codes(made, subspace.space, tangents.dtype)

    def picture(u: Tensor) -> Tensor:
        return made.synthesize(base.with_values(base.values + subspace.lift(u)[None])).images[0]

    zero = tangents.new_zeros(subspace.dim)
    return made.linearize(base, subspace)(tangents), vmap(lambda t: jvp(picture, (zero,), (t,))[1])(tangents)


@pytest.mark.parametrize("clamp", [None, 1.0])
@pytest.mark.parametrize("space", SPACES)
def test_tangents_are_the_derivative(space: str, clamp: float | None) -> None:
    made = generator(clamp)
    subspace = parse_subspace(space, made.spaces)
    written, taken = both(made, subspace, torch.eye(subspace.dim, dtype=torch.float64))
    torch.testing.assert_close(written, taken, rtol=1e-6, atol=1e-6 * float(taken.abs().max()))
    assert taken.abs().max() > 1e-3


def test_many_tangents_are_halved_until_they_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    made = generator(dtype=torch.float32)
    subspace = parse_subspace("w+", made.spaces)
    tangents = torch.randn(11, subspace.dim, generator=torch.Generator().manual_seed(1))
    whole = both(made, subspace, tangents)[0]
    monkeypatch.setattr(stylegan2_tangents, "CACHED_BYTES", 30_000)
    torch.testing.assert_close(both(made, subspace, tangents)[0], whole, rtol=1e-4, atol=1e-5)


def test_no_tangent_changes_nothing() -> None:
    made = generator()
    subspace = parse_subspace("w+", made.spaces)
    linear = made.linearize(codes(made, subspace.space), subspace)
    assert not linear(torch.zeros(2, subspace.dim, dtype=torch.float64)).any()


def test_a_style_of_zero_is_no_trouble() -> None:
    made = generator()
    subspace = parse_subspace("s", made.spaces)
    base = codes(made, made.spaces["s"])
    values = base.values.clone()
    values[:, ::3] = 0
    base = base.with_values(values)

    def picture(u: Tensor) -> Tensor:
        return made.synthesize(base.with_values(base.values + u[None])).images[0]

    tangents = torch.eye(subspace.dim, dtype=torch.float64)
    taken = vmap(lambda t: jvp(picture, (tangents[0] * 0,), (t,))[1])(tangents)
    torch.testing.assert_close(made.linearize(base, subspace)(tangents), taken, rtol=1e-5, atol=1e-6)
