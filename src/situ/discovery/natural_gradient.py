"""Gradient steps on unit vectors in the metric of the pictures' change, not of the coordinates.

A latent's coordinates differ by orders of magnitude in what they change, and the gradients of single batches are mostly
noise along those that change little. Multiplying them by the inverse of T, the Gram matrix of the total change, evens
that out; for a Rayleigh quotient u^T F u / u^T T u it makes a gradient step a step of power iteration on T^-1 F.
Adam's scales per coordinate know only T's diagonal, and its first steps all have full length in every coordinate.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

MEMORY_OF_STEPS = 0.9  # share of the past that gradient and scale keep at every step


class NaturalGradient(torch.optim.Optimizer):
    """Momentum steps of given length along T^-1 g, for parameters whose rows are unit vectors.

    `lr` is the length of the first step of each row; later ones shrink as their gradients do.
    """

    def __init__(self, rows: Iterable[Tensor], lr: float, inverse: Float[Tensor, "d d"] | None) -> None:
        """
        Args:
            inverse: (T + ridge)^-1; None for the plain metric of the coordinates.
        """
        super().__init__(rows, {"lr": lr})
        self.inverse = inverse

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for u in group["params"]:
                if u.grad is not None:
                    self._move(u, group["lr"])

    def _move(self, u: Tensor, lr: float) -> None:
        assert u.grad is not None
        gradient = u.grad if self.inverse is None else u.grad @ self.inverse
        unit = u / u.norm(dim=-1, keepdim=True)
        gradient = gradient - (gradient * unit).sum(dim=-1, keepdim=True) * unit  # along the sphere
        state = self.state[u]
        if not state:
            state.update(count=0, mean=torch.zeros_like(u), square=torch.zeros_like(u[..., :1]))
        state["count"] += 1
        state["mean"].lerp_(gradient, 1 - MEMORY_OF_STEPS)
        state["square"].lerp_(gradient.square().sum(dim=-1, keepdim=True), 1 - MEMORY_OF_STEPS)
        bias = 1 - MEMORY_OF_STEPS ** state["count"]
        u.sub_(lr * (state["mean"] / bias) / (state["square"] / bias).sqrt().clamp(min=1e-20))


def inverse_metric(total: Float[Tensor, "b b"], basis: Float[Tensor, "b d"], ridge: float) -> Float[Tensor, "d d"]:
    """(T + ridge tr(T) I)^-1, from T on the steps of a basis; what the basis does not reach gets its mean.

    Scaled to a mean diagonal of 1.
    """
    q, r = torch.linalg.qr(basis.double().mT)  # basis = r^T q^T
    inner = torch.linalg.solve_triangular(r.mT, total.double(), upper=False)
    t = torch.linalg.solve_triangular(r.mT, inner.mT, upper=False)  # T in the orthonormal basis q
    d, b = q.shape
    lift = ridge * t.trace()
    inverse = torch.linalg.inv((t + t.mT) / 2 + lift * torch.eye(b, device=t.device))
    outside = torch.eye(d, device=t.device) - q @ q.mT if b < d else torch.zeros(1, device=t.device)
    whole = q @ inverse @ q.mT + outside / (t.trace() / b + lift)
    return (whole / whole.diagonal().mean()).float()
