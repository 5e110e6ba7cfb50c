"""Edit one part of a picture through a GAN's latent space and leave the rest alone."""

from situ.checkpoints.native import save_generator
from situ.checkpoints.open import open_checkpoint
from situ.core.direction import Direction, Edit, calibrate, load_direction, solve_distance
from situ.core.discovery import Calibration, discover, random_directions
from situ.core.errors import SituError
from situ.core.generator import Generator, Synthesis
from situ.core.inversion import Inversion, invert, load_inversion
from situ.core.jacobian import Jacobian, Rows, gram_matrices, jacobian, load_jacobian
from situ.core.latents import Latents, LatentSpace, Subspace, load_latents, parse_subspace, save_latents
from situ.core.measurement import EditedImages, measure
from situ.core.region import Box, Brush, Part, Region, Rest, load_brush, parse_part, preset
from situ.core.transfer import transfer_part
from situ.core.traversal import palette, sweep, sweep_distances, synthesize_edits
from situ.discovery.baselines import Interpolation, RandomDirections
from situ.discovery.first_order import FirstOrder
from situ.discovery.ganalyze import GANalyze
from situ.discovery.ganspace import GANSpace
from situ.discovery.interfacegan import InterFaceGAN
from situ.discovery.lelsd import LELSD
from situ.discovery.lowrankgan import LowRankGAN
from situ.discovery.resefa import ReSeFa, solve_region
from situ.discovery.sefa import SeFa
from situ.discovery.styleflow import StyleFlow
from situ.discovery.stylespace import StyleSpace
from situ.generators.any_module import AnyModule
from situ.generators.biggan import BigGAN
from situ.generators.stylegan1 import StyleGAN1
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings
from situ.generators.stylegan3 import StyleGAN3
from situ.inversion.encoder import EncoderInversion
from situ.inversion.magec import MAGEC
from situ.inversion.optimization import Optimization
from situ.packs.inverters import inverter_named
from situ.packs.library import open_model
from situ.packs.pack import Pack
from situ.packs.segmenters import open_segmenter
from situ.photos.paste_back import PasteBack
from situ.photos.read import read_photo
from situ.segmenters.clusters import ClusterSegmenter, fit_clusters, load_clusters
from situ.segmenters.linear import LinearSegmenter, fit_linear, load_linear

__all__ = [
    "LELSD",
    "MAGEC",
    "AnyModule",
    "BigGAN",
    "Box",
    "Brush",
    "Calibration",
    "ClusterSegmenter",
    "Direction",
    "Edit",
    "EditedImages",
    "EncoderInversion",
    "FirstOrder",
    "GANSpace",
    "GANalyze",
    "Generator",
    "InterFaceGAN",
    "Interpolation",
    "Inversion",
    "Jacobian",
    "LatentSpace",
    "Latents",
    "LinearSegmenter",
    "LowRankGAN",
    "Optimization",
    "Pack",
    "Part",
    "PasteBack",
    "RandomDirections",
    "ReSeFa",
    "Region",
    "Rest",
    "Rows",
    "SeFa",
    "SituError",
    "StyleFlow",
    "StyleGAN1",
    "StyleGAN2",
    "StyleGAN2Network",
    "StyleGAN2Settings",
    "StyleGAN3",
    "StyleSpace",
    "Subspace",
    "Synthesis",
    "calibrate",
    "discover",
    "fit_clusters",
    "fit_linear",
    "gram_matrices",
    "invert",
    "inverter_named",
    "jacobian",
    "load_brush",
    "load_clusters",
    "load_direction",
    "load_inversion",
    "load_jacobian",
    "load_latents",
    "load_linear",
    "measure",
    "open_checkpoint",
    "open_model",
    "open_segmenter",
    "palette",
    "parse_part",
    "parse_subspace",
    "preset",
    "random_directions",
    "read_photo",
    "save_generator",
    "save_latents",
    "solve_distance",
    "solve_region",
    "sweep",
    "sweep_distances",
    "synthesize_edits",
    "transfer_part",
]
