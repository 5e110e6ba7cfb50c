"""BigGAN and BigGAN-deep behind the generator contract: spaces, classes, feature layers, and a synthesis in steps.

Brock et al., "Large scale GAN training for high fidelity natural image synthesis" (2019). The networks are in
`biggan_network.py` and `biggan_deep_network.py`.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from situ.core.classes import class_labels, one_hot_classes
from situ.core.errors import GeneratorError, LatentError
from situ.core.generator import FeatureLayer, Synthesis, SynthesisState, feature_steps, require_spaces
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from situ.generators.biggan_network import BlockStack
from situ.generators.style_based import weights_hash

LIMIT = 2.0  # numbers of z lie within +- this times the truncation


class BigGAN:
    """A frozen BigGAN or BigGAN-deep.

    Spaces: "z" (one slice) and "z+" (one slice for the first layer and one for every block that takes any of z: a chunk
    of a hierarchical z, a copy of all of z in BigGAN-deep). Feature layers: the outputs of the first layer, of the
    blocks and of self-attention. The class is part of a latent, not of its space: no direction changes it.

    Truncation acts on the draw, z ~ truncation * N(0, 1) cut off at +-2, and chooses the batch statistics where a model
    has several sets. So `Latents.truncation` stays with a code in both spaces: it says for which truncation the
    synthesis runs, and nothing is scaled by it again.
    """

    def __init__(self, network: BlockStack, names: Sequence[str] = ()) -> None:
        """
        Args:
            network: the weights; they are frozen in place.
            names: of the classes in order, synonyms of one separated by commas ("tench, Tinca tinca"); none, or all.

        Raises:
            GeneratorError: not as many names as classes.
        """
        self.network = network.eval().requires_grad_(False)
        self.settings = network.settings
        self.resolution = self.settings.resolution
        self.name = f"{network.architecture}-{self.resolution}px-{weights_hash(network)}"
        taking = [step for step in network.steps if step.part is not None]
        slices = (Slice(step.name, size) for step, size in zip(taking, self.settings.z_parts, strict=True))
        self.spaces: Mapping[str, LatentSpace] = {
            "z": LatentSpace("z", (Slice("z", self.settings.z_dim),)),
            "z+": LatentSpace("z+", tuple(slices)),
        }
        self.layers = tuple(
            FeatureLayer(step.name, step.resolution, step.channels, i) for i, step in enumerate(network.steps[:-1])
        )
        if names and len(names) != self.settings.classes:
            raise GeneratorError(f"{self.name} has {self.settings.classes} classes, got {len(names)} names of classes")
        self.names = tuple(names)
        self.usual_labels: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.network.linear.weight.device

    # --- classes

    def one_hot(self, classes: int | str | Sequence[int | str]) -> Float[Tensor, "n c"]:
        """Classes, by number or by name, as the one-hot rows that `Latents.labels` holds.

        A name is one of `names`, or one of its synonyms, in any case; digits are a number.

        Raises:
            GeneratorError: no such class, no names known, or a name that several classes have.
        """
        rows = one_hot_classes(classes, self.settings.classes, self.names, self.name)
        return rows.to(self.network.linear.weight)

    # --- latents

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Float[Tensor, "n c"] | None = None,
    ) -> Latents:
        """See `Generator.sample`. The truncation lies in (0, 1]; without labels `usual_labels` (1, classes) are taken,
        or a class is drawn for each code."""
        _require_truncation(truncation)
        like = self.network.linear.weight
        drawn = torch.empty(n, self.settings.z_dim, device=rng.device)
        nn.init.trunc_normal_(drawn, a=-LIMIT, b=LIMIT, generator=rng)
        labels = class_labels(n, self.settings.classes, rng, labels, self.usual_labels)
        assert labels is not None
        return self.convert(
            Latents((truncation * drawn).to(like), self.spaces["z"], labels.to(like), truncation), space
        )

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        """See `Generator.convert`."""
        require_spaces(self, latents.space, space)
        if latents.space == space:
            return latents
        if space.name == "z":
            raise LatentError(
                "latents go z -> z+, so z+ has no unique code in z: use a direction of z+ or start from latents of z"
            )
        copies = self.spaces["z+"].dim // self.settings.z_dim  # a hierarchical z is in its chunks already
        return Latents(latents.values.repeat(1, copies), space, latents.labels, latents.truncation)

    # --- synthesis

    def first_step(self, subspace: Subspace) -> int:
        """See `Generator.first_step`."""
        first = 0 if subspace.space.name == "z" else subspace.chosen[0]
        return next(i for i, step in enumerate(self.network.steps) if step.part == first)

    def synthesize(
        self,
        latents: Latents,
        features: Sequence[str] = (),
        *,
        images: bool = True,
        keep: int | None = None,
        resume: SynthesisState | None = None,
    ) -> Synthesis:
        """See `Generator.synthesize`. Memory: the activations of one step, plus the features asked for."""
        _require_truncation(latents.truncation)
        steps = self.network.steps
        first = 0 if resume is None else resume.step
        wanted = list(feature_steps(self, features).values())
        if any(step < first for step in wanted) or (keep is not None and keep < first):
            raise GeneratorError(f"a synthesis resumed at {steps[first].name} cannot give what lies before it")
        last = len(steps) if images else max([*wanted, (keep or 0) - 1, first - 1]) + 1
        z = self.spaces["z+"].split(self.convert(latents, self.spaces["z+"]).values)
        embedded = self._embedded(latents)
        x = None if resume is None else resume.tensors[0]
        state, found = None, {}
        for i in range(first, last):
            if i == keep:
                state = SynthesisState(i, (x,))
            x = self.network.step(i, x, z, embedded, latents.truncation)
            if i in wanted:
                found[steps[i].name] = x
        if last == keep:
            state = SynthesisState(last, (x,))
        return Synthesis(x if images else None, found, state)

    def _embedded(self, latents: Latents) -> Float[Tensor, "n e"]:
        labels = latents.labels
        if labels is None or labels.shape[1] != self.settings.classes:
            got = "none" if labels is None else tuple(labels.shape)
            raise GeneratorError(
                f"{self.name} is class-conditional: give labels, one-hot rows of {self.settings.classes} numbers, "
                f"got {got}"
            )
        return self.network.embed(labels)


def _require_truncation(truncation: float) -> None:
    if not 0 < truncation <= 1:
        raise LatentError(
            f"the truncation of BigGAN lies above 0 and at most at 1, which is full variety, got {truncation}"
        )
