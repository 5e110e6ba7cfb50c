"""Edit one part of a picture through a GAN's latent space and leave the rest alone."""

from situ.core.direction import Direction, Edit, calibrate, load_direction, solve_distance
from situ.core.discovery import Calibration, discover, random_directions
from situ.core.errors import SituError
from situ.core.generator import Generator, Synthesis
from situ.core.latents import Latents, LatentSpace, Subspace, load_latents, parse_subspace, save_latents
from situ.core.measurement import EditedImages, measure
from situ.core.region import Box, Brush, Part, Region, Rest, load_brush, parse_part
from situ.core.traversal import palette, sweep, sweep_distances, synthesize_edits
from situ.discovery.lelsd import LELSD
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings
from situ.packs.library import open_model
from situ.packs.pack import Pack

__all__ = [
    "LELSD",
    "Box",
    "Brush",
    "Calibration",
    "Direction",
    "Edit",
    "EditedImages",
    "Generator",
    "LatentSpace",
    "Latents",
    "Pack",
    "Part",
    "Region",
    "Rest",
    "SituError",
    "StyleGAN2",
    "StyleGAN2Network",
    "StyleGAN2Settings",
    "Subspace",
    "Synthesis",
    "calibrate",
    "discover",
    "load_brush",
    "load_direction",
    "load_latents",
    "measure",
    "open_model",
    "palette",
    "parse_part",
    "parse_subspace",
    "random_directions",
    "save_latents",
    "solve_distance",
    "sweep",
    "sweep_distances",
    "synthesize_edits",
]
