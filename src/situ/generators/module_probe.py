"""Looking into a `torch.nn.Module`: what its submodules give while it runs, and whether its output is pictures."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from torch import Tensor, nn

from situ.core.errors import GeneratorError
from situ.core.generator import FeatureLayer


@dataclass(frozen=True)
class Activation:
    """What a submodule gave in the dry run."""

    name: str
    shape: tuple[int, ...]  # empty for anything but a tensor
    times: int


class EnoughSeen(Exception):
    """Stops a forward pass after the last wanted feature."""


def frozen(module: nn.Module) -> nn.Module:
    """Set to evaluation, without gradients of its own, and with no activation overwritten by the next."""
    for part in module.modules():
        if getattr(part, "inplace", False) is True:
            cast(Any, part).inplace = False
    return module.eval().requires_grad_(False)


def example_of(module: nn.Module) -> Tensor | None:
    """A weight of a module, which tells its device and precision."""
    return next((t for t in chain(module.parameters(), module.buffers()) if t.is_floating_point()), None)


def first_tensor(output: Any) -> Tensor | None:
    """A tensor, or the first of several; None for anything else."""
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    return first if isinstance(first, Tensor) else None


def tensor_of(output: Any) -> Tensor:
    """The pictures in what a module gives: the tensor, or the first of several."""
    tensor = first_tensor(output)
    if tensor is None:
        raise GeneratorError(f"it gives a {type(output).__name__}, expected a tensor of pictures: wrap it")
    return tensor


def layout_of(raw: Tensor, resolution: int | None) -> tuple[int, int]:
    """Channels and size of pictures, from the shape of the output of two latents."""
    shape = tuple(raw.shape)
    expected = "expected (n, 3, h, h), (n, 1, h, h), (n, h, h) or flat (n, 3 h h)"
    if not raw.is_floating_point():
        raise GeneratorError(f"it gives {raw.dtype}, expected real numbers, which have a derivative")
    if len(shape) == 4 and shape[3] in (1, 3) and shape[1] == shape[2] > 3:
        raise GeneratorError(f"it gives pictures with the channels last, {shape}: wrap it with permute(0, 3, 1, 2)")
    channels, height, width = 0, 0, 0
    if len(shape) == 2:
        for channels in (1, 3):
            height = width = math.isqrt(shape[1] // channels)
            if channels * height * width == shape[1]:
                break
        else:
            raise GeneratorError(f"it gives {shape[1]} numbers, which are no square picture in grey or RGB; {expected}")
    elif len(shape) == 3:
        channels, height, width = 1, shape[1], shape[2]
    elif len(shape) == 4:
        channels, height, width = shape[1:]
    if shape[:1] != (2,) or channels not in (1, 3) or height < 2 or width < 2:
        raise GeneratorError(f"it gives {shape} for two latents, {expected}")
    if height != width:
        raise GeneratorError(f"it gives pictures of {height} x {width}, expected square ones: pad them in a wrapper")
    if resolution not in (None, height):
        raise GeneratorError(f"it gives pictures of {height} pixels, not of resolution={resolution}")
    return channels, height


def is_map(activation: Activation) -> bool:
    """Whether it is a square map with more than one position."""
    shape = activation.shape
    return len(shape) == 4 and shape[2] == shape[3] > 1


def activations_of(module: nn.Module, run: Callable[[], object]) -> list[Activation]:
    """The output of every submodule while something runs, in the order of the first time."""
    seen: dict[str, Activation] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: Any) -> None:
            tensor = first_tensor(output)
            times = seen[name].times + 1 if name in seen else 1
            seen[name] = Activation(name, () if tensor is None else tuple(tensor.shape), times)

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in module.named_modules() if name]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return list(seen.values())


def feature_layers(seen: Sequence[Activation], names: Sequence[str]) -> tuple[FeatureLayer, ...]:
    """The layers of those names, in the order in which they run. Raises GeneratorError where one gives no map."""
    by_name = {activation.name: activation for activation in seen}
    if len(set(names)) < len(names):
        raise GeneratorError(f"every layer is named once, got {', '.join(names)}")
    for name in names:
        if name not in by_name:
            usable = [a.name for a in seen if is_map(a)]
            raise GeneratorError(f'no submodule "{name}" runs; those that give features are {_some(usable)}')
        activation = by_name[name]
        if activation.times > 1:
            raise GeneratorError(f'the submodule "{name}" runs {activation.times} times for one picture: name others')
        if not is_map(activation):
            raise GeneratorError(
                f'a feature layer gives (n, channels, h, h) with h > 1, "{name}" gives '
                f"{activation.shape or 'no tensor'}"
            )
    ordered = [activation for activation in seen if activation.name in names]
    return tuple(FeatureLayer(a.name, a.shape[2], a.shape[1], i) for i, a in enumerate(ordered))


def find_layers(module: nn.Module, seen: Sequence[Activation], resolution: int) -> list[str]:
    """The outputs of convolutions, or failing that the last output at each resolution; the picture is none."""
    maps = [a for a in seen if is_map(a) and a.times == 1 and (a.shape[1] > 3 or a.shape[2] != resolution)]
    modules = dict(module.named_modules())
    convolutions = [a.name for a in maps if isinstance(modules[a.name], (nn.Conv2d, nn.ConvTranspose2d))]
    return convolutions or list({a.shape[2]: a.name for a in maps}.values())


@contextmanager
def watching(module: nn.Module, names: Sequence[str], last: str = "") -> Iterator[dict[str, Tensor]]:
    """The outputs of submodules, while a forward pass runs; `EnoughSeen` ends it after `last`."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is not None:
                found[name] = tensor
            if name == last:
                raise EnoughSeen

        return hook

    handles = [module.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"


def brief(error: BaseException) -> str:
    """An error in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:150]}" if words else type(error).__name__
