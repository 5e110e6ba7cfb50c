"""Regions as people name them on the page: parts, boxes, painted places, clusters and words.

A name is all that is kept of a region, in a person's work: "eyes+brows", "box[46,32,8,18]", "brush-3f2a..." (a mask in
the person's folder), "cluster-3 of 8", or any words where a model that goes by words is set up.
"""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from situ.core.errors import RegionError
from situ.core.files import write_whole
from situ.core.progress import Progress
from situ.core.region import Box, Brush, Part, Region, Segmenter, load_brush
from situ.packs.pack import Pack
from situ.packs.segmenters import open_segmenter
from situ.segmenters.clusters import ClusterSegmenter, fit_clusters, load_clusters
from situ.studio.kept import Kept

MASK = 512  # pixels at most on a side of a mask that is painted in the browser
LONGEST = 400_000  # characters of a mask as it comes from there
WORDS = 80  # characters at most
CLUSTERS = (2, 24)  # numbers of clusters that can be asked for
_PNG = "data:image/png;base64,"
_BOX = re.compile(r"(?:box\[)?\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]?")
_BRUSH = re.compile(r"brush-[0-9a-f]{16}")
_CLUSTER = re.compile(r"(cluster-\d+(?:\+cluster-\d+)*) of (\d+)")


class Regions:
    """What can be named on a model."""

    def __init__(self, pack: Pack, folder: Path, words: str | None = None) -> None:
        """
        Args:
            folder: where clusters are kept.
            words: the place of a segmenter that goes by words (CLIPSeg): see `open_segmenter`.
        """
        self.pack, self.folder, self.words = pack, folder, words
        self._spoken: Kept[str, Segmenter] = Kept(2, 2**30)
        self._clusters: Kept[int, ClusterSegmenter] = Kept(4, 2**26)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that the model's own segmenter knows."""
        return self.pack.segmenter.parts if self.pack.segmenter else ()

    def read(self, text: str, folder: Path) -> str:
        """The name of a region that somebody typed or chose. Raises RegionError for what is none."""
        match = _BOX.fullmatch(text.strip())
        name = Box(*map(int, match.groups())).name if match else text.strip()
        if name:
            self.region(name, folder)
        return name

    def region(self, name: str, folder: Path) -> Region:
        """A region by its name.

        Args:
            folder: of the person, where painted masks are.

        Raises:
            RegionError: nothing is chosen, or the name is none of a region.
        """
        if not name:
            raise RegionError("choose a part, or click, box or paint one in the picture")
        if match := _BOX.fullmatch(name):
            box = Box(*map(int, match.groups()))
            box.require_inside(self.pack.generator.resolution)
            return box
        if name.startswith("brush"):
            return self._painted(name, folder)
        if match := _CLUSTER.fullmatch(name):
            return Part(self.clusters(int(match[2])), tuple(match[1].split("+")))
        labels = tuple(label.strip() for label in name.split("+"))
        if self.words and not set(labels) <= set(self.parts):
            return Part(self._by_words(labels), labels)
        if self.pack.segmenter is None:
            raise RegionError(f'this model has no parts, so no "{name}": box or paint the place, or find clusters')
        return Part(self.pack.segmenter, labels)

    def box(self, corners: Sequence[float]) -> str:
        """The name of a rectangle: two opposite corners, rows and columns as shares of the picture's size."""
        size = self.pack.generator.resolution
        # whole pixels, every one that is touched
        top, bottom = sorted((corners[0], corners[2]))
        left, right = sorted((corners[1], corners[3]))
        first = [min(max(int(share * size), 0), size - 1) for share in (top, left)]
        last = [min(max(int(share * size), 0), size - 1) for share in (bottom, right)]
        height, width = (b - a + 1 for a, b in zip(first, last, strict=True))
        return Box(first[0] + height // 2, first[1] + width // 2, height, width).name

    def paint(self, drawn: str, folder: Path) -> str:
        """Keep a mask that was painted in the browser, and name it.

        Args:
            drawn: a PNG as a data address, opaque where it is painted.

        Raises:
            RegionError: nothing is painted, or it is no such picture.
        """
        if not drawn.startswith(_PNG) or len(drawn) > LONGEST:
            raise RegionError("what was painted did not arrive as a small PNG: paint it again")
        try:
            content = base64.b64decode(drawn.removeprefix(_PNG), validate=True)
            with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
                if max(picture.size) > MASK:
                    raise ValueError(f"{picture.size} pixels")
                opaque = np.asarray(picture.convert("RGBA"))[..., 3] > 127
        except (OSError, ValueError, SyntaxError) as error:  # damaged PNGs raise SyntaxError, too
            raise RegionError(f"what was painted cannot be read ({error}): paint it again") from None
        if not opaque.any():
            raise RegionError("nothing is painted: paint over the place to edit")
        name = f"brush-{hashlib.sha256(opaque.tobytes()).hexdigest()[:16]}"
        mask = Image.fromarray(opaque.astype(np.uint8) * 255)
        write_whole(folder / f"{name}.png", mask.save)
        return name

    def _painted(self, name: str, folder: Path) -> Brush:
        path = folder / f"{name}.png"
        if not _BRUSH.fullmatch(name) or not path.is_file():
            raise RegionError("nothing is painted: paint over the place to edit")
        return Brush(load_brush(path).painted)

    def _by_words(self, labels: tuple[str, ...]) -> Segmenter:
        assert self.words is not None
        if any(not label or len(label) > WORDS for label in labels):
            raise RegionError(f"words for a part are up to {WORDS} letters")
        place = self.words
        return self._spoken.once("+".join(labels), lambda: open_segmenter(place, self.pack.generator, labels))

    def clusters(self, k: int) -> ClusterSegmenter:
        """The clusters that were found. Raises RegionError where they were not."""
        return self._clusters.once(k, lambda: load_clusters(self._file(k), self.pack.generator))

    def has_clusters(self, k: int) -> bool:
        """Whether they were found before."""
        return self._file(k).is_file()

    def find_clusters(self, k: int, rng: torch.Generator, progress: Progress) -> ClusterSegmenter:
        """Cluster the model's features, once for each number. Raises RegionError for a number that makes no sense."""
        low, high = CLUSTERS
        if not low <= k <= high:
            raise RegionError(f"from {low} to {high} clusters can be looked for, got {k}")
        if not self.has_clusters(k):
            fit_clusters(self.pack.generator, k=k, rng=rng, progress=progress).save(self._file(k))
        return self.clusters(k)

    def _file(self, k: int) -> Path:
        made_on = hashlib.sha256(self.pack.generator.name.encode()).hexdigest()[:8]
        return self.folder / f"clusters-{k}-{made_on}.safetensors"
