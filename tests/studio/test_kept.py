"""What is kept in memory: bounded in number and in bytes."""

from dataclasses import dataclass

import torch

from situ.studio.kept import Kept, bytes_of


def test_what_was_used_longest_ago_goes_first() -> None:
    gone: list[str] = []
    kept: Kept[int, str] = Kept(2, 100, gone.append)
    kept.put(1, "one")
    kept.put(2, "two")
    assert kept.get(1) == "one"
    kept.put(3, "three")
    assert gone == ["two"]
    assert kept.get(2) is None
    assert [key for key, _ in kept.items()] == [1, 3]


def test_bytes_are_bounded_and_the_newest_always_kept() -> None:
    kept: Kept[int, torch.Tensor] = Kept(10, 1000)
    for i in range(5):
        kept.put(i, torch.zeros(100))  # 400 bytes
    assert len(kept) == 2
    assert kept.bytes == 800
    kept.put(9, torch.zeros(5000))
    assert [key for key, _ in kept.items()] == [9]


def test_values_are_computed_once() -> None:
    calls: list[int] = []
    kept: Kept[str, int] = Kept(2, 100)
    for _ in range(3):
        assert kept.once("a", lambda: calls.append(1) or 7) == 7
    assert len(calls) == 1


def test_bytes_of_what_holds_tensors() -> None:
    @dataclass
    class Held:
        a: torch.Tensor
        b: dict[str, tuple[torch.Tensor, None]]
        c: str

    assert bytes_of(Held(torch.zeros(3), {"x": (torch.zeros(2, dtype=torch.uint8), None)}, "four")) == 12 + 2 + 4
