"""What one of several processes does in the tests of shared searches."""

from pathlib import Path

import torch
from torch import distributed

from situ.core.region import Box
from situ.discovery.lelsd import LELSD
from toys import tiny_stylegan2

BOXES = (Box(4, 4, 8, 8), Box(12, 10, 6, 10))
METHODS = {
    "natural": LELSD(space="w+:2-4", samples=20, batch=5, k=2, max_pictures=4),
    "as coded": LELSD.as_coded(space="w+:2-4", samples=10, batch=5, k=2, alternate=True),
    "patient": LELSD(space="w+:2-4", samples=200, batch=4, patience=1, lr=3.0, optimizer="adam", start="random"),
}


def searched(method: LELSD, leave_at: int = 0) -> torch.Tensor:
    """Vectors and steps of a search; `leave_at` makes this process end in the middle of it."""

    def progress(done: int | float, total: int, message: str = "") -> None:
        if done == leave_at:
            raise SystemExit(0)

    rows = method.find(tiny_stylegan2(), BOXES, torch.Generator().manual_seed(0), progress)
    vectors = torch.stack([direction.vector for directions in rows for direction in directions])
    return torch.cat([vectors, torch.tensor([[d.figures["steps"]] for ds in rows for d in ds])], dim=1)


def searched_among(rank: int, size: int, folder: Path, names: tuple[str, ...], leaves_at: int) -> None:
    """Join the others, search, and write what was found; the last process ends early where it is told to."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=size)
    for name in names:
        found = searched(METHODS[name], leaves_at if rank == size - 1 else 0)
        torch.save(found, folder / f"{name} {rank}.pt")
    distributed.destroy_process_group()
