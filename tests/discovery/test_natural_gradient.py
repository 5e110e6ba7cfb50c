"""Natural-gradient steps: their length, their direction, and what the metric buys on a badly scaled quotient."""

import torch
from torch import Tensor

from situ.discovery.natural_gradient import NaturalGradient, inverse_metric

RNG = torch.Generator().manual_seed(0)
SCALES = torch.logspace(0, -3, 20)
TOTAL = torch.diag(SCALES)
ROOT = SCALES.sqrt()
INNER = torch.randn(20, 20, generator=RNG)
INNER = INNER @ INNER.T
SHARES = ROOT[:, None] * (INNER / torch.linalg.eigvalsh(INNER).max()) * ROOT  # F <= T, at best 1


def quotient(u: Tensor) -> Tensor:
    return ((u @ SHARES * u).sum(dim=-1) / (u @ TOTAL * u).sum(dim=-1)).sum()


def climb(inverse: Tensor | None, steps: int) -> float:
    u = torch.ones(1, 20) / 20**0.5
    u.requires_grad_()
    optimizer = NaturalGradient([u], 0.15, inverse)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 / (1 + i / 8))
    for _ in range(steps):
        optimizer.zero_grad()
        (-quotient(u)).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            u /= u.norm(dim=-1, keepdim=True)
    return float(quotient(u.detach()))


def test_the_metric_gets_there_where_the_coordinates_do_not() -> None:
    inverse = inverse_metric(TOTAL, torch.eye(20), 1e-3)
    natural, plain = climb(inverse, 60), climb(None, 60)
    assert natural > 0.8
    assert natural > plain + 0.2


def test_the_first_step_has_the_given_length_along_the_sphere() -> None:
    u = torch.nn.functional.normalize(torch.randn(3, 20, generator=RNG), dim=-1).requires_grad_()
    before = u.detach().clone()
    optimizer = NaturalGradient([u], 0.1, inverse_metric(TOTAL, torch.eye(20), 1e-3))
    (-quotient(u)).backward()
    optimizer.step()
    step = u.detach() - before
    torch.testing.assert_close(step.norm(dim=-1), torch.full([3], 0.1))
    torch.testing.assert_close((step * before).sum(dim=-1), torch.zeros(3), atol=1e-6, rtol=0)


def test_a_row_without_gradient_stays() -> None:
    u = torch.nn.functional.normalize(torch.randn(2, 4, generator=RNG), dim=-1).requires_grad_()
    still = torch.ones(1, 4, requires_grad=True)
    optimizer = NaturalGradient([u, still], 0.1, None)
    before = u.detach().clone()
    u[0].sum().backward()
    optimizer.step()
    assert torch.equal(u[1], before[1])
    assert not torch.equal(u[0], before[0])
    assert torch.equal(still, torch.ones(1, 4))


def test_the_metric_is_the_inverse() -> None:
    ridge = 1e-2
    expected = torch.linalg.inv(TOTAL + ridge * TOTAL.trace() * torch.eye(20))
    torch.testing.assert_close(
        inverse_metric(TOTAL, torch.eye(20), ridge), expected / expected.diagonal().mean(), rtol=1e-4, atol=1e-5
    )


def test_the_metric_does_not_depend_on_the_basis() -> None:
    """T given on any steps that span the same is the same metric; beyond them it is a multiple of the identity."""
    basis = torch.randn(6, 20, generator=RNG)
    mixed = torch.randn(6, 6, generator=RNG) @ basis
    one, other = (inverse_metric(b @ TOTAL @ b.T, b, 1e-3) for b in (basis, mixed))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    q = torch.linalg.qr(basis.T)[0]
    outside = torch.linalg.qr(torch.cat([q, torch.randn(20, 14, generator=RNG)], dim=1))[0][:, 6:]
    block = outside.T @ one @ outside
    torch.testing.assert_close(block, block.diagonal().mean() * torch.eye(14), rtol=1e-3, atol=1e-3)
