"""LELSD on several processes: the samples of a step are shared, the gradients summed, the result that of one."""

from pathlib import Path

import pytest
import torch

from situ.core.errors import SituError
from situ.discovery.lelsd import LELSD
from toys import tiny_stylegan2
from toys_ranks import BOXES, METHODS, searched, searched_among


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(searched_among, (2, tmp_path, tuple(METHODS), 0), nprocs=2)
    for name, method in METHODS.items():
        alone = searched(method)
        first, second = (torch.load(tmp_path / f"{name} {rank}.pt") for rank in range(2))
        assert torch.equal(first, second), name
        # great steps, which make a search stall, make rounding grow
        torch.testing.assert_close(first, alone, atol=1e-3 if method.lr > 1 else 2e-5, rtol=0)
    assert alone[0, -1] < METHODS["patient"].steps  # all stop when the first does


@pytest.mark.slow
def test_when_a_process_is_lost_what_was_found_is_kept(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(searched_among, (2, tmp_path, ("natural",), 2), nprocs=2)
    assert not (tmp_path / "natural 1.pt").exists()
    assert torch.load(tmp_path / "natural 0.pt")[:, -1].tolist() == [2.0] * 4


def test_more_processes_than_samples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("situ.discovery.lelsd.ranks", lambda: (0, 8))
    with pytest.raises(SituError, match="8 processes cannot share the 4 latents of a step"):
        LELSD(space="w+:2-4").find(tiny_stylegan2(), BOXES, torch.Generator().manual_seed(0))
