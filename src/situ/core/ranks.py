"""One optimisation on several processes: what torchrun started shares the samples of a step and sums the gradients.

Every process draws the same random numbers, works on its own share, and moves by the sum, so that all stay the same.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, distributed


class RankLost(KeyboardInterrupt):
    """Another process of the same optimisation ended. As with Ctrl-C, methods keep what they have."""


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def own_rank() -> int:
    """The number of this process, 0 where it is alone."""
    return int(os.environ["RANK"]) if started_by_torchrun() else 0


@contextmanager
def joined_ranks(device: str) -> Iterator[None]:
    """Join the processes that torchrun started; nothing where it did not."""
    if not started_by_torchrun():
        yield
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def ranks() -> tuple[int, int]:
    """The number of this process and how many there are: 0 and 1 where it is alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place. Raises RankLost where one of them ended."""
    return _exchanged(distributed.all_reduce, tensor)


def same_everywhere(tensor: Tensor) -> Tensor:
    """The first process's values, in place. Raises RankLost where one of them ended."""
    return _exchanged(partial(distributed.broadcast, src=0), tensor)


def _exchanged(exchange: Callable[[Tensor], object], tensor: Tensor) -> Tensor:
    if ranks()[1] > 1:
        try:
            exchange(tensor)
        except RuntimeError as error:
            raise RankLost(f"another process of this search ended: {error}") from error
    return tensor
