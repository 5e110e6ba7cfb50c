"""Batch renderer of face portraits from signed-distance shapes, with exact soft part masks.

All lengths are fractions of the picture side (x right, y down).  The framing is that of an aligned crop: eyes
near (0.37, 0.47) and (0.63, 0.47), nose tip near y = 0.60, mouth centre near (0.5, 0.72), chin near y = 0.87.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PARTS: tuple[str, ...] = (
    "background", "hair", "skin", "brows", "eyes", "nose", "mouth", "ears", "neck", "clothes", "glasses",
    "beard",
)  # fmt: skip


@dataclass(frozen=True)
class Factor:
    """One number in [0, 1] that the renderer turns into something visible.

    `part` is the part it shows in: one of PARTS, or "pose" or "light".  `identity` is True for what makes the
    person and False for pose, expression, light, surroundings and what is put on.
    """

    name: str
    part: str
    identity: bool
    meaning: str


FACTORS: tuple[Factor, ...] = (
    Factor("yaw", "pose", False, "0 turned 25 degrees to picture left ... 0.5 frontal ... 1 right"),
    Factor("pitch", "pose", False, "0 chin up ... 0.5 level ... 1 chin down"),
    Factor("roll", "pose", False, "0 leaning 5 degrees anticlockwise ... 1 leaning 5 degrees clockwise"),
    Factor("scale", "pose", False, "0 four percent smaller ... 1 four percent larger"),
    Factor("light_azimuth", "light", False, "0 light from picture left ... 0.5 frontal ... 1 right"),
    Factor("light_intensity", "light", False, "0 dim and flat ... 1 bright with clear modelling"),
    Factor("light_warmth", "light", False, "0 cool ... 1 warm light"),
    Factor("background_hue", "background", False, "once round the colour circle"),
    Factor("background_value", "background", False, "0 dark ... 1 light"),
    Factor("background_blend", "background", False, "0 plain ... 1 second colour strong"),
    Factor("skin_tone", "skin", True, "0 very fair ... 1 very dark"),
    Factor("face_width", "skin", True, "0 narrow ... 1 wide"),
    Factor("jaw", "skin", True, "0 tapered chin ... 1 square jaw"),
    Factor("blush", "skin", False, "0 pale cheeks ... 1 rosy cheeks"),
    Factor("hair_tone", "hair", True, "0 black ... 0.5 brown ... 1 blond (or white when ashy)"),
    Factor("hair_warmth", "hair", True, "0 grey ... 0.5 natural ... 1 red"),
    Factor("hair_length", "hair", True, "0 cropped ... 0.4 jaw ... 1 below the shoulders"),
    Factor("hair_volume", "hair", True, "0 close to the skull ... 1 full"),
    Factor("hair_fringe", "hair", True, "0 forehead free ... 1 fringe down to the brows"),
    Factor("hair_parting", "hair", True, "0 parted at picture left ... 0.5 middle ... 1 at picture right"),
    Factor("hair_wave", "hair", True, "0 straight ... 1 wavy"),
    Factor("brow_thickness", "brows", True, "0 thin ... 1 bushy"),
    Factor("brow_height", "brows", False, "0 lowered ... 1 raised"),
    Factor("brow_tilt", "brows", False, "0 outer ends down ... 1 outer ends up"),
    Factor("brow_arch", "brows", True, "0 flat ... 1 arched"),
    Factor("eye_size", "eyes", True, "0 small ... 1 large"),
    Factor("eye_closure", "eyes", False, "0 wide open ... 1 closed"),
    Factor("gaze_x", "eyes", False, "0 to picture left ... 1 to picture right"),
    Factor("gaze_y", "eyes", False, "0 up ... 1 down"),
    Factor("iris_colour", "eyes", True, "0 dark brown, hazel, green, grey ... 1 blue"),
    Factor("nose_width", "nose", True, "0 narrow ... 1 wide"),
    Factor("nose_length", "nose", True, "0 short ... 1 long"),
    Factor("nose_ridge", "nose", True, "0 flat bridge ... 1 pronounced bridge"),
    Factor("mouth_width", "mouth", True, "0 narrow ... 1 wide"),
    Factor("lip_fullness", "mouth", True, "0 thin ... 1 full lips"),
    Factor("mouth_open", "mouth", False, "0 closed ... 1 wide open"),
    Factor("smile", "mouth", False, "0 corners down ... 0.35 neutral ... 1 broad smile"),
    Factor("lipstick", "mouth", False, "0 natural lips ... 1 full colour"),
    Factor("lipstick_colour", "mouth", False, "0 coral ... 0.5 red ... 1 plum"),
    Factor("ear_size", "ears", True, "0 small ... 1 large"),
    Factor("neck_width", "neck", True, "0 slender ... 1 broad"),
    Factor("clothes_hue", "clothes", False, "once round the colour circle"),
    Factor("clothes_value", "clothes", False, "0 dark ... 1 light"),
    Factor("collar", "clothes", False, "0 high round neckline ... 1 deep V"),
    Factor("glasses", "glasses", False, "0 none ... 1 thin dark frames"),
    Factor("beard", "beard", True, "0 none ... 0.4 stubble ... 1 full beard"),
)

_INDEX = {factor.name: number for number, factor in enumerate(FACTORS)}


@dataclass(frozen=True)
class Attribute:
    """A yes-or-no statement about a picture: true where the factor named `factor` exceeds `above`."""

    name: str
    factor: str
    above: float


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("mouth_open", "mouth_open", 0.3),
    Attribute("smiling", "smile", 0.65),
    Attribute("eyes_closed", "eye_closure", 0.75),
    Attribute("glasses", "glasses", 0.5),
    Attribute("beard", "beard", 0.3),
    Attribute("long_hair", "hair_length", 0.6),
    Attribute("lipstick", "lipstick", 0.5),
    Attribute("fringe", "hair_fringe", 0.55),
    Attribute("wavy_hair", "hair_wave", 0.5),
    Attribute("dark_skin", "skin_tone", 0.6),
    Attribute("light_hair", "hair_tone", 0.62),
    Attribute("red_hair", "hair_warmth", 0.75),
    Attribute("looking_right", "gaze_x", 0.62),
    Attribute("raised_brows", "brow_height", 0.62),
    Attribute("wide_nose", "nose_width", 0.6),
    Attribute("full_lips", "lip_fullness", 0.6),
    Attribute("facing_right", "yaw", 0.6),
    Attribute("v_collar", "collar", 0.5),
)


@dataclass(frozen=True)
class Rendering:
    """Pictures in [-1, 1], soft visible coverage of each part (PARTS order, sums to 1), and their factors."""

    images: Float[Tensor, "n 3 h w"]
    masks: Float[Tensor, "n p h w"]
    factors: Float[Tensor, "n f"]


def sample_factors(n: int, rng: torch.Generator) -> Float[Tensor, "n f"]:
    """Draw `n` plausible people and circumstances: (n, len(FACTORS)) in [0, 1], on the generator's device."""
    device = rng.device

    def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=rng, device=device)

    def normal(mean: float | Tensor, deviation: float) -> Tensor:
        return (mean + deviation * torch.randn(n, generator=rng, device=device)).clamp(0, 1)

    def happens(probability: float | Tensor) -> Tensor:
        return (uniform() < probability).float()

    masculine = happens(0.5)
    skin = uniform() ** 1.15
    fair = (1 - skin / 0.55).clamp(0, 1)
    light_hair = happens(0.62 * (1 - skin).clamp(0, 1))
    tone = light_hair * uniform(0.5, 1.0) + (1 - light_hair) * uniform(0.0, 0.5)
    kind = uniform()
    warmth = torch.where(kind < 0.16, uniform(0.0, 0.2), torch.where(kind < 0.16 + 0.26 * (1 - skin),
                         uniform(0.76, 1.0), uniform(0.35, 0.68)))  # fmt: skip
    tone = torch.where(kind < 0.16, tone.clamp(min=0.0) * 0.6 + 0.4 * uniform(), tone)
    long = happens(0.18 + 0.58 * (1 - masculine))
    bearded = happens(0.42 * masculine)
    painted = happens(0.5 * (1 - masculine) + 0.02)
    closed = happens(0.12)
    opened = happens(0.4)
    smile = torch.where(uniform() < 0.09, uniform(0.05, 0.3), normal(0.64, 0.19))
    values = {
        "yaw": normal(0.5, 0.22),
        "pitch": normal(0.5, 0.2),
        "roll": normal(0.5, 0.2),
        "scale": uniform(),
        "light_azimuth": normal(0.5, 0.26),
        "light_intensity": uniform(0.1, 1.0),
        "light_warmth": normal(0.5, 0.22),
        "background_hue": uniform(),
        "background_value": uniform(),
        "background_blend": uniform(),
        "skin_tone": skin,
        "face_width": normal(0.42 + 0.16 * masculine, 0.22),
        "jaw": normal(0.3 + 0.35 * masculine, 0.18),
        "blush": normal(0.45, 0.25),
        "hair_tone": tone,
        "hair_warmth": warmth,
        "hair_length": torch.where(long > 0.5, uniform(0.45, 1.0), uniform(0.0, 0.34)),
        "hair_volume": normal(0.45, 0.22),
        "hair_fringe": torch.where(uniform() < 0.52 + 0.24 * masculine, uniform(0.0, 0.3), uniform(0.5, 1.0)),
        "hair_parting": uniform(),
        "hair_wave": torch.where(uniform() < 0.55, uniform(0.0, 0.3), uniform(0.45, 1.0)),
        "brow_thickness": normal(0.30 + 0.22 * masculine, 0.19),
        "brow_height": normal(0.54, 0.19),
        "brow_tilt": normal(0.46, 0.14),
        "brow_arch": normal(0.55 - 0.15 * masculine, 0.2),
        "eye_size": normal(0.58 - 0.12 * masculine, 0.2),
        "eye_closure": torch.where(closed > 0.5, uniform(0.88, 1.0), normal(0.2, 0.14).clamp(max=0.6)),
        "gaze_x": normal(0.5, 0.21),
        "gaze_y": normal(0.48, 0.18),
        "iris_colour": torch.where(happens(0.10 + 0.75 * fair) > 0.5, uniform(0.3, 1.0), uniform(0.0, 0.35)),
        "nose_width": normal(0.36 + 0.3 * skin, 0.2),
        "nose_length": normal(0.5, 0.22),
        "nose_ridge": normal(0.55, 0.22),
        "mouth_width": normal(0.5, 0.2),
        "lip_fullness": normal(0.42 + 0.25 * skin, 0.2),
        "mouth_open": torch.where(opened > 0.5, uniform(0.32, 0.95), uniform(0.0, 0.1)),
        "smile": smile,
        "lipstick": painted * uniform(0.55, 1.0) + (1 - painted) * uniform(0.0, 0.12),
        "lipstick_colour": uniform(),
        "ear_size": uniform(),
        "neck_width": normal(0.3 + 0.4 * masculine, 0.17),
        "clothes_hue": uniform(),
        "clothes_value": uniform(),
        "collar": uniform(),
        "glasses": happens(0.16) * uniform(0.75, 1.0),
        "beard": bearded * uniform(0.35, 1.0),
    }
    return torch.stack([values[factor.name] for factor in FACTORS], dim=1)


def attributes(factors: Float[Tensor, "n f"]) -> Bool[Tensor, "n a"]:
    """Truth of each of ATTRIBUTES, in order, for each row of factors."""
    return torch.stack([factors[:, _INDEX[each.factor]] > each.above for each in ATTRIBUTES], dim=1)


def render(factors: Float[Tensor, "n f"], resolution: int, supersample: int = 2) -> Rendering:
    """Draw one portrait per row of factors (each in [0, 1]), `resolution` pixels wide and high.

    Deterministic: the same factors always give the same picture.  `supersample` draws that many times finer
    and averages areas.  Works on the factors' device, in chunks of bounded memory (64 pictures or fewer).
    """
    chunk = 16 if factors.device.type == "cpu" else 64
    chunk = max(1, min(chunk, chunk * 128 * 128 // (resolution * supersample) ** 2))
    if len(factors) == 0:
        empty = factors.new_zeros((0, len(PARTS), resolution, resolution), dtype=torch.float32)
        return Rendering(empty[:, :3], empty, factors)
    with torch.no_grad():
        rows = factors.float().clamp(0, 1).split(chunk)
        pieces = [_Painter(each, resolution, supersample).paint() for each in rows]
    images = torch.cat([piece[0] for piece in pieces])
    return Rendering(images, torch.cat([piece[1] for piece in pieces]), factors)


LANDMARKS: tuple[str, ...] = ("left_eye", "right_eye", "nose_tip", "left_mouth_corner", "right_mouth_corner")
"""The five points of a face; left and right are the picture's."""


def landmarks(factors: Float[Tensor, "n f"], resolution: int) -> Float[Tensor, "n 5 2"]:
    """Where LANDMARKS are: (x, y) in pixels of the picture of that resolution, (0, 0) its upper left corner.

    An eye's point lies midway between the corners of its lids. The points are there also where hair covers them.
    """
    painter = _Painter(factors.float().clamp(0, 1), 1, 1)
    mouth_x, mouth_y = painter.mouth_place()
    half, curve = painter.mouth_shape()
    nose_x, nose_y = painter.nose_tip()
    eye_x, eye_y = (torch.full_like(mouth_x, value) for value in EYE)
    corner_y = mouth_y - 0.60 * curve  # the line at t = 1
    front = torch.stack([-eye_x, eye_x, nose_x, mouth_x - half, mouth_x + half]).view(5, -1)
    y = torch.stack([eye_y, eye_y, nose_y, corner_y, corner_y]).view(5, -1)
    return painter.in_picture(front, y) * resolution


EYE = (0.131, 0.472)  # centre of an eye in the frame of the unrolled face
UNROLL = 1.45  # how much a turn widens the half of the face that is turned away

# Colour tables (sRGB, 0 to 1), read by linear interpolation.
_SKIN = (
    (0.935, 0.785, 0.70),
    (0.905, 0.725, 0.61),
    (0.85, 0.645, 0.505),
    (0.73, 0.52, 0.38),
    (0.55, 0.37, 0.26),
    (0.37, 0.245, 0.18),
)
_HAIR = (
    (0.10, 0.08, 0.075),
    (0.20, 0.135, 0.10),
    (0.36, 0.24, 0.16),
    (0.60, 0.44, 0.28),
    (0.86, 0.72, 0.49),
)
_HAIR_GREY = (
    (0.16, 0.16, 0.17),
    (0.29, 0.29, 0.30),
    (0.45, 0.45, 0.46),
    (0.64, 0.635, 0.63),
    (0.84, 0.83, 0.81),
)
_HAIR_RED = (
    (0.19, 0.09, 0.07),
    (0.32, 0.13, 0.08),
    (0.50, 0.21, 0.11),
    (0.66, 0.33, 0.17),
    (0.82, 0.50, 0.28),
)
_IRIS = (
    (0.17, 0.10, 0.07),
    (0.34, 0.21, 0.12),
    (0.44, 0.36, 0.19),
    (0.34, 0.46, 0.31),
    (0.46, 0.54, 0.58),
    (0.27, 0.47, 0.68),
)
_LIPSTICK = (
    (0.86, 0.38, 0.33),
    (0.76, 0.20, 0.25),
    (0.66, 0.14, 0.22),
    (0.62, 0.22, 0.36),
    (0.42, 0.13, 0.25),
)


def _table(rows: tuple[tuple[float, float, float], ...], at: Tensor) -> Tensor:
    """Colours (n, 3, 1, 1) read from an evenly spaced table at positions `at` (n, 1, 1) in [0, 1]."""
    table = torch.tensor(rows, device=at.device, dtype=at.dtype)
    place = at.flatten() * (len(rows) - 1)
    below = place.floor().long().clamp(0, len(rows) - 2)
    return torch.lerp(table[below], table[below + 1], (place - below)[:, None])[:, :, None, None]


def _hue(hue: Tensor, saturation: Tensor | float, value: Tensor) -> Tensor:
    """Smooth muted colour (n, 3, 1, 1) from hue (turns), saturation and value (each n, 1, 1)."""
    phase = torch.tensor([0.0, 1 / 3, 2 / 3], device=hue.device)[None, :, None, None]
    ring = 0.5 + 0.5 * torch.cos(2 * math.pi * (hue[:, None] - phase))
    saturation = saturation[:, None] if isinstance(saturation, Tensor) else saturation
    return value[:, None] * (1 - saturation * (1 - ring))


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = ((x - low) * (1 / (high - low))).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def _larger(a: Tensor, b: Tensor, rounding: float) -> Tensor:
    """Smooth maximum: intersection of two shapes with rounded corners."""
    near = (rounding - (a - b).abs()).clamp_(min=0)
    return torch.maximum(a, b) + near * near * (0.25 / rounding)


def _bell(square: Tensor) -> Tensor:
    """Cheap smooth bump of compact support of a squared distance: 1 at 0, 0 from 1 on."""
    t = (1 - square).clamp_(min=0)
    return t * t


class _Painter:
    """Draws one chunk of portraits, back to front, remembering each layer's coverage."""

    def __init__(self, factors: Tensor, resolution: int, supersample: int) -> None:
        self.value = {name: factors[:, number].view(-1, 1, 1) for name, number in _INDEX.items()}
        self.side = resolution * supersample
        self.supersample = supersample
        self.pixel = 1.0 / resolution
        self.layers: list[tuple[str, slice, Tensor]] = []
        self.everywhere = slice(0, self.side)
        self._pose(factors.device)
        self._colours()

    def _pose(self, device: torch.device) -> None:
        v = self.value
        self.turn = torch.sin((v["yaw"] - 0.5) * (50 * math.pi / 180))
        self.nod = (v["pitch"] - 0.5) * 2
        roll = (v["roll"] - 0.5) * (10 * math.pi / 180)
        scale = 1 / (1 + (v["scale"] - 0.5) * 0.08)
        line = (torch.arange(self.side, device=device) + 0.5) / self.side
        across, down = line.view(1, 1, -1), line.view(1, -1, 1)
        self.across, self.down = across, down
        self.cosine, self.sine = cosine, sine = torch.cos(roll) * scale, torch.sin(roll) * scale
        # The face's own frame: x = 0 on its middle line, y as in the picture.
        self.x = (across - 0.5) * cosine + (down - 0.55) * sine
        self.y = (down - 0.55) * cosine - (across - 0.5) * sine + 0.55
        # The front of the face unrolled: undoes the foreshortening of the far half.
        self.front = self.x + UNROLL * self.turn * self.x * self.x
        self.face = 0.255 + 0.048 * v["face_width"]
        angle = (v["light_azimuth"] - 0.5) * (130 * math.pi / 180)
        self.light_x, self.light_z = torch.sin(angle) * 0.85, torch.cos(angle) * 0.85
        self.key = 0.22 + 0.30 * v["light_intensity"]
        self.base_light = 0.835 - 0.12 * v["light_intensity"]

    def _colours(self) -> None:
        v = self.value
        self.skin = _table(_SKIN, v["skin_tone"])
        warmth = v["hair_warmth"][:, None]
        hair = _table(_HAIR, v["hair_tone"])
        hair = torch.lerp(hair, _table(_HAIR_GREY, v["hair_tone"]), ((0.35 - warmth) / 0.25).clamp(0, 1))
        self.hair = torch.lerp(hair, _table(_HAIR_RED, v["hair_tone"]), ((warmth - 0.6) / 0.25).clamp(0, 1))
        rose = torch.tensor([0.80, 0.345, 0.335], device=self.skin.device)[None, :, None, None]
        lip = torch.lerp(self.skin * 0.88, rose * (1.05 - 0.48 * v["skin_tone"][:, None]), 0.52)
        paint = _table(_LIPSTICK, v["lipstick_colour"]) * (1 - 0.25 * v["skin_tone"][:, None])
        self.lip = torch.lerp(lip, paint, 0.9 * v["lipstick"][:, None])

    def in_picture(self, front: Float[Tensor, "p n"], y: Float[Tensor, "p n"]) -> Float[Tensor, "n p 2"]:
        """Where points of the unrolled face are in the picture: undoes what `_pose` does to the picture's lines."""
        turn, cosine, sine = (each.view(1, -1) for each in (self.turn, self.cosine, self.sine))
        x = 2 * front / (1 + (1 + 4 * UNROLL * turn * front).sqrt())  # the root of x + UNROLL turn x^2 = front
        across, down = x * cosine - (y - 0.55) * sine, x * sine + (y - 0.55) * cosine
        size = cosine.square() + sine.square()
        return torch.stack([across / size + 0.5, down / size + 0.55]).permute(2, 1, 0)

    def rows(self, top: float, bottom: float) -> slice:
        """The pixel rows between two heights (fractions of the picture)."""
        return slice(int(top * self.side), min(self.side, math.ceil(bottom * self.side)))

    def cover(self, distance: Tensor, extra: float = 0.0) -> Tensor:
        """Coverage (0 to 1) of a shape from its signed distance, one output pixel (plus `extra`) soft."""
        return (0.5 - distance * (1 / (self.pixel + extra))).clamp_(0, 1)

    def put(self, part: str | None, rows: slice, alpha: Tensor, colour: Tensor) -> None:
        """Lay a colour (n, 3, 1, 1) or (n, 3, h, w) over the picture; `part` None changes no mask."""
        target = self.image[:, :, rows]
        target.lerp_(colour.expand_as(target), alpha[:, None].expand_as(target))
        if part is not None:
            self.layers.append((part, rows, alpha))

    def tinted(self, base: Tensor, light: Tensor, lift: float = 0.10) -> Tensor:
        """Base colour (n, 3, 1, 1) under a light field (n, h, w); shadows keep more red than blue."""
        keep = torch.tensor([1.4, 0.0, -0.5], device=base.device)[None, :, None, None] * lift
        return base * keep + (base * (1 - keep)) * light[:, None]

    def paint(self) -> tuple[Tensor, Tensor]:
        """Images (n, 3, h, w) in [-1, 1] and masks (n, p, h, w) of this chunk."""
        self._background()
        self._hair_shapes()
        self._hair_back()
        self._head_shape()
        self._neck()
        self._clothes()
        self._ears()
        self._head()
        self._beard()
        self._mouth()
        self._eyes()
        self._brows()
        self._hair_front()
        self._glasses()
        warm = (self.value["light_warmth"][:, None] - 0.5) * 2
        tint = torch.tensor([0.045, 0.0, -0.075], device=warm.device)[None, :, None, None]
        image = (self.image * (1 + warm * tint)).clamp_(0, 1)
        masks = self._masks()
        if self.supersample > 1:
            image = torch.nn.functional.avg_pool2d(image, self.supersample)
            masks = torch.nn.functional.avg_pool2d(masks, self.supersample)
        return image * 2 - 1, masks

    def _masks(self) -> Tensor:
        n = self.image.shape[0]
        masks = self.image.new_zeros(n, len(PARTS), self.side, self.side)
        left = masks[:, 0].fill_(1)
        for part, rows, alpha in reversed(self.layers):
            seen = left[:, rows] * alpha
            masks[:, PARTS.index(part), rows] += seen
            left[:, rows] -= seen
        return masks

    def _background(self) -> None:
        v = self.value
        value = 0.30 + 0.52 * v["background_value"]
        first = _hue(v["background_hue"], 0.27, value)
        second = _hue(v["background_hue"] + 0.18, 0.25, value * 0.62)
        distance = (self.across - 0.5 - 0.25 * self.light_x) ** 2 + (self.down - 0.30) ** 2
        fade = _ramp(distance, 0.0, 0.65) * (0.15 + 0.85 * v["background_blend"])
        self.image = torch.lerp(first, second, fade[:, None])

    def _lambert(self, x: Tensor, y: Tensor) -> Tensor:
        """Light on a dome whose normal leans by x and y (each about -1 to 1)."""
        depth = (1 - x * x - y * y).clamp_(min=0.0).sqrt_()
        return (x * self.light_x - 0.42 * y + depth * self.light_z).clamp_(min=-0.25)

    def _hair_shapes(self) -> None:
        v, y = self.value, self.y
        length, volume = v["hair_length"], v["hair_volume"]
        wavy = v["hair_wave"] * _ramp(y, 0.12, 0.66)
        x = self.x + 0.095 * self.turn
        swing = torch.sin(y * 29 + 0.6)
        x = x * (1 + 0.042 * wavy * swing)
        self.hair_x, self.hair_swing = x, wavy * swing
        self.short = 1 - _ramp(length, 0.26, 0.42)
        middle = 0.43
        width = self.face + 0.008 + 0.045 * volume + (0.030 + 0.015 * volume) * (1 - self.short)
        bottom = 0.16 + 0.62 * length
        down = y - middle
        flare = (1 - self.short) * (0.02 + 0.10 * volume)
        self.dome_x = x / (width * (1 + flare * (down * 2).clamp(0, 1)))
        lean = (v["hair_parting"] - 0.5) * (x * (1 / 0.3)).clamp(-1, 1)
        top = 0.312 + 0.012 * self.nod + 0.058 * volume * (1 - 0.9 * lean)
        self.dome_y = torch.where(down < 0, down / top, down / bottom)
        xx, yy = self.dome_x * self.dome_x, self.dome_y * self.dome_y
        round_ = (xx + yy).sqrt()
        boxy = (xx * xx + yy * yy).sqrt_().sqrt_()
        ripple = 0.022 * v["hair_wave"] * torch.cos(x * 27 + 0.5) * _ramp(-down, -0.05, 0.12)
        radius = ripple + torch.where(down < 0, torch.lerp(round_, boxy, 0.2), torch.lerp(round_, boxy, 1 - self.short))
        self.dome = radius
        self.envelope = (radius - 1) * 0.32
        # The opening that shows the face: hairline above, side curtains left and right.
        part_x = (v["hair_parting"] - 0.5) * 0.24
        opening_x = self.x + 0.062 * self.turn
        t = (opening_x - part_x) / self.face
        fall = t * t / (t.abs() + 0.22)
        parted = 0.188 + (0.075 + 0.105 * (1 - self.short)) * fall + 0.018 * self.nod
        sweep = 0.352 + 0.02 * torch.sin(t * 5.5) + 0.035 * (v["hair_parting"] - 0.5) * t
        hairline = torch.lerp(parted, sweep, v["hair_fringe"])
        side = self.face * (
            0.91 + 0.4 * self.short * _ramp(y, 0.39, 0.52) - 0.26 * (1 - self.short) * _ramp(y, 0.66, 0.95)
        )
        self.opening = _larger((hairline - y) * 0.9, opening_x.abs() - side * (1 + 0.03 * self.hair_swing), 0.10)
        self.part_x = part_x

    def _hair_light(self) -> Tensor:
        y = self.y
        drop = (y - 0.05).clamp(min=0.0)
        across = (self.hair_x - self.part_x * (1 - _ramp(y, 0.1, 0.6))) / (drop + 0.04).sqrt_()
        fade = _ramp(drop, 0.02, 0.16)
        bend = 5.0 * self.hair_swing
        strands = 0.55 * torch.sin(across * 41 + 1.1 + bend) + 0.45 * torch.sin(across * 67 + 0.4 - 4.0 * y + bend)
        self.strands = strands * fade
        light = self._lambert((self.dome_x * 0.85).clamp(-0.95, 0.95), (self.dome_y * 0.75).clamp(-0.75, 0.2))
        band = _bell(((self.dome - 0.80) * 5.0) ** 2) * (-self.dome_y * 1.8).clamp(0, 1)
        side = (1 + 0.9 * self.dome_x * self.light_x).clamp_(min=0.1)
        self.band = band * side * (0.75 + 0.35 * self.strands) * (0.4 + 0.6 * self.value["light_intensity"])
        parting = _bell(((self.hair_x - self.part_x) * 70) ** 2) * (1 - _ramp(y, 0.12, 0.27))
        parting = parting * (1 - 0.8 * self.value["hair_fringe"])
        tone = self.base_light * 0.82 + self.key * 0.95 * light - 0.13 * parting
        return tone + 0.085 * self.strands + 0.06 * self.hair_swing

    def _hair_back(self) -> None:
        self.hair_light = self._hair_light()
        colour = self.tinted(self.hair, self.hair_light * 0.66)
        self.put("hair", self.everywhere, self.cover(self.envelope, 0.006), colour)

    def _hair_front(self) -> None:
        edge = torch.maximum(self.envelope, -self.opening)
        alpha = self.cover(edge, 0.008)
        # Darker where the locks turn in towards the face.
        light = self.hair_light - 0.14 * (1 + edge * 18).clamp_(0, 1)
        colour = self.tinted(self.hair, light)
        colour += self.band[:, None] * (0.05 + 0.22 * self.hair)
        self.put("hair", self.everywhere, alpha, colour)

    def _head_shape(self) -> None:
        v, y = self.value, self.y
        middle = 0.46
        down = y - middle
        chin = 0.405 - 0.014 * self.nod
        centre = -self.turn * (0.072 - 0.062 * _ramp(y, 0.45, 0.85))
        lower = (down / chin).clamp(0, 1.2)
        taper = 1 - (0.235 - 0.19 * v["jaw"]) * lower * lower.clamp(max=1)
        self.head_x = (self.x - centre) / (self.face * taper)
        self.head_y = torch.where(down < 0, down / 0.34, down / chin)
        xx, yy = self.head_x * self.head_x, self.head_y * self.head_y
        round_ = (xx + yy).sqrt()
        boxy = (xx * xx + yy * yy).sqrt_().sqrt_()
        square = torch.where(down < 0, 0.25 * torch.ones_like(v["jaw"]), 0.02 + 0.48 * v["jaw"])
        self.head = (torch.lerp(round_, boxy, square) - 1) * 0.30

    def _neck(self) -> None:
        v = self.value
        rows = self.rows(0.62, 1.0)
        y = self.y[:, rows]
        x = self.x[:, rows] + 0.05 * self.turn
        width = 0.108 + 0.055 * v["neck_width"]
        width = width + 0.10 * _ramp(y, 0.90, 1.06)
        alpha = self.cover(torch.maximum(x.abs() - width, 0.66 - y))
        lean = x / width
        light = self.base_light + self.key * 0.8 * self._lambert(lean * 0.8, torch.zeros_like(lean)) - 0.05
        light = light - 0.30 * (1 - self.head[:, rows] * 9).clamp_(0, 1) - 0.06 * lean * lean
        self.put("neck", rows, alpha, self.tinted(self.skin, light))

    def _clothes(self) -> None:
        v = self.value
        rows = self.rows(0.80, 1.0)
        y = self.y[:, rows]
        x = self.x[:, rows] + 0.03 * self.turn
        xx = x * x
        shoulder = 0.885 + 0.38 * xx + 0.012 * (1 - v["neck_width"])
        width = 0.14 + 0.05 * v["neck_width"]
        t = x.abs() / width
        depth = 0.06 + 0.09 * v["collar"]
        curve = torch.lerp(1 - t * t, 1.05 - t, v["collar"])
        neckline = 0.90 + depth * curve - 0.035 * (t - 1).clamp(min=0)
        distance = torch.maximum(shoulder - y, (neckline - y) * 0.7)
        value = 0.20 + 0.62 * v["clothes_value"]
        colour = _hue(v["clothes_hue"], 0.42, value)
        lean = (x * 1.7).clamp(-0.9, 0.9)
        light = self.base_light + self.key * 0.9 * self._lambert(lean, torch.full_like(lean, -0.2)) - 0.06
        trim = _bell(((distance + 0.016) * 55) ** 2) * (1 - _ramp(t, 1.0, 1.25))
        light = light - 0.16 * trim
        self.put("clothes", rows, self.cover(distance), self.tinted(colour, light))

    def _ears(self) -> None:
        v = self.value
        rows = self.rows(0.34, 0.70)
        y = self.y[:, rows] - 0.515 + 0.02 * self.nod
        x = (self.x[:, rows] + 0.12 * self.turn).abs() - self.face + 0.008
        size = 0.74 + 0.44 * v["ear_size"]
        lean = x - 0.10 * -y
        radius = ((lean / (0.040 * size)) ** 2 + (y / (0.078 * size)) ** 2).sqrt_()
        alpha = self.cover((radius - 1) * 0.045)
        light = self.base_light + self.key * 0.55 * (1 + 0.4 * torch.sign(self.x[:, rows]) * self.light_x) - 0.04
        light = light - 0.22 * _bell(((radius - 0.35) * 1.9) ** 2)
        colour = self.tinted(self.skin, light, 0.13)
        colour[:, 0] += 0.02
        self.put("ears", rows, alpha, colour)

    def _head(self) -> None:
        v = self.value
        x, y, front = self.x, self.y, self.front
        lambert = self._lambert((self.head_x * 0.80).clamp(-0.95, 0.95), (self.head_y * 0.55).clamp(-0.7, 0.7))
        light = self.base_light + self.key * lambert
        # Shade of the hair on the forehead and temples, and turning away at the outline.
        light -= 0.15 * (1 + self.opening * 16).clamp_(0, 1) ** 2
        light -= 0.10 * (1 + self.head * 14).clamp_(0, 1) ** 2
        fold = front.abs()
        blush = v["blush"] * _bell(((fold - 0.155) / 0.125) ** 2 + ((y - 0.605) / 0.11) ** 2)
        light += 0.035 * _bell(((fold - 0.145) / 0.10) ** 2 + ((y - 0.575) / 0.07) ** 2)
        rows = self.rows(0.30, 0.62)
        light[:, rows] -= 0.085 * _bell(((fold[:, rows] - 0.115) / 0.14) ** 2 + ((y[:, rows] - 0.445) / 0.075) ** 2)
        rows = self.rows(0.66, 0.98)
        chin = ((front[:, rows] - 0.02 * self.turn) / 0.10) ** 2
        light[:, rows] += 0.05 * _bell(chin + ((y[:, rows] - 0.825) / 0.05) ** 2)
        light[:, rows] -= 0.06 * _bell(chin * 0.8 + ((y[:, rows] - 0.782) / 0.026) ** 2)
        nose = self._nose(light, blush)
        self.skin_light = light
        colour = self.tinted(self.skin, light)
        rosy = torch.tensor([0.035, -0.085, -0.060], device=x.device)[None, :, None, None] * (0.35 + 0.65 * self.skin)
        colour += blush[:, None] * rosy
        alpha = self.cover(self.head)
        self.put("skin", self.everywhere, alpha, colour)
        rows, cover, nostrils = nose
        self.layers.append(("nose", rows, cover * alpha[:, rows]))
        hollow = torch.tensor([0.46, 0.33, 0.30], device=x.device)[None, :, None, None]
        self.put(None, rows, nostrils, self.skin * hollow)

    def _nose(self, light: Tensor, blush: Tensor) -> tuple[slice, Tensor, Tensor]:
        """Model the nose into the light field; returns its rows, its coverage and its nostrils' coverage."""
        v = self.value
        rows = self.rows(0.36, 0.72)
        y = self.y[:, rows]
        tip_x, tip = self.nose_tip()
        down = _ramp((y - 0.43) / (tip - 0.43), 0.0, 1.0)
        x = self.front[:, rows] - tip_x * down
        wing = 0.043 + 0.042 * v["nose_width"]
        width = 0.026 + (wing - 0.026) * down * down
        t = x / width
        tt = t * t
        upper = _ramp(y, 0.40, 0.46)
        lower = 1 - _ramp(y - tip, 0.012, 0.040)
        inside = upper * lower
        ridge = 0.4 + 1.4 * v["nose_ridge"]
        slope = t * _bell(tt * 0.40) * inside * (1 - 0.35 * down)
        shade = ridge * (0.24 * self.key + 0.02) * (slope * self.light_x * 2.6)
        shade -= 0.065 * ridge * _bell((t.abs() - 0.95) ** 2 * 3.2) * inside
        shade += 0.060 * ridge * _bell(tt * 5.0) * inside
        away = y - tip
        shade += 0.070 * _bell((x / 0.030) ** 2 + ((away + 0.006) / 0.026) ** 2)
        # Wings' crease, and the soft shadow underneath.
        shade -= 0.13 * _bell(((x.abs() - wing * 1.02) / 0.016) ** 2 + ((away - 0.008) / 0.030) ** 2)
        shade -= 0.13 * _bell((x / (wing * 1.05)) ** 2 + ((away - 0.036) / 0.020) ** 2)
        light[:, rows] += shade
        blush[:, rows] += 0.35 * v["blush"] * _bell((x / 0.06) ** 2 + (away / 0.05) ** 2)
        edge = _larger(x.abs() - width - 0.008, torch.maximum(away - 0.034, 0.425 - y), 0.03)
        hole = ((x.abs() - wing * 0.50) / 0.0165) ** 2 + ((away - 0.020 - 0.06 * (x.abs() - wing * 0.5)) / 0.0085) ** 2
        nostrils = 0.66 * (1.5 - hole).clamp_(0, 1)
        return rows, self.cover(edge, 0.012), nostrils

    def _beard(self) -> None:
        v = self.value
        rows = self.rows(0.44, 1.0)
        x, y, front = self.x[:, rows], self.y[:, rows], self.front[:, rows]
        amount = v["beard"]
        fold = front.abs()
        # From the sideburns down the jaw, round the chin, and up to the moustache.
        jaw_line = 0.755 - 0.75 * (fold - 0.06).clamp(min=0) - 1.6 * (fold - 0.20).clamp(min=0)
        cheek = _ramp(y - jaw_line, -0.025, 0.045)
        lip = self.mouth_place()[1]
        round_mouth = ((front - 0.02 * self.turn) / 0.142) ** 2 + ((y - lip - 0.018) / 0.092) ** 2
        grown = torch.maximum(cheek, _ramp(1 - round_mouth, -0.02, 0.36))
        chin = self.head[:, rows] - 0.022 * amount * _ramp(y, 0.70, 0.85)
        place = self.cover(chin, 0.01) * grown
        hair = self.hair * 0.80
        colour = torch.lerp(self.skin * 0.8, hair, 0.55 + 0.4 * amount[:, None])
        opacity = (amount * 1.25).clamp(max=0.95) * (0.75 + 0.2 * amount)
        wave = torch.sin(x * 62 + 3.0 * torch.sin(y * 21)) + torch.sin(x * 37 - y * 30 + 1.0)
        light = self.skin_light[:, rows] * 0.98 + 0.035 * wave
        self.put("beard", rows, place * opacity, self.tinted(colour, light))

    def nose_tip(self) -> tuple[Tensor, Tensor]:
        """The tip (x, y) of the nose in the frame of the unrolled face."""
        return 0.098 * self.turn, 0.592 + 0.040 * (self.value["nose_length"] - 0.5) + 0.022 * self.nod

    def mouth_shape(self) -> tuple[Tensor, Tensor]:
        """Half the mouth's width, and how far its line bends."""
        v = self.value
        half = 0.088 + 0.024 * v["mouth_width"] + 0.018 * (v["smile"] - 0.35)
        return half, -0.016 + 0.058 * v["smile"]

    def mouth_place(self) -> tuple[Tensor, Tensor]:
        """Centre (x, y) of the mouth in the face's frame."""
        return 0.022 * self.turn, 0.717 + 0.012 * self.nod

    def _mouth(self) -> None:
        v = self.value
        rows = self.rows(0.60, 0.90)
        centre_x, centre_y = self.mouth_place()
        x, y = self.front[:, rows] - centre_x, self.y[:, rows]
        smile = v["smile"]
        half, curve = self.mouth_shape()
        t = x / half
        tt = t * t
        arc = 1 - tt
        line = centre_y - curve * (tt.clamp(max=1.6) - 0.40)
        gap = 0.070 * v["mouth_open"]
        full = 0.60 + 0.95 * v["lip_fullness"]
        bow = 1 - 0.22 * _bell(tt * 9)
        top_lip = 0.0235 * full * bow * (0.65 + 0.35 * arc)
        bottom_lip = 0.0315 * full
        upper_edge = line - 0.28 * gap * arc
        lower_edge = line + 0.72 * gap * arc
        # Soft creases at the corners and a shade under the lower lip.
        corner = _bell(((t.abs() - 1.04) / 0.20) ** 2 + ((y - line) / 0.022) ** 2)
        shadow = 0.20 * corner
        self.put(None, rows, shadow, self.skin * 0.45)
        lips = torch.maximum(upper_edge - top_lip * arc - y, y - lower_edge - bottom_lip * arc)
        lips = torch.maximum(lips, (t.abs() - 1) * half)
        alpha = self.cover(lips)
        shade = self.skin_light[:, rows] * 0.92 + 0.04
        below = y > (line + 0.2 * gap)
        shade = shade + torch.where(below, 0.06, -0.10)
        gloss = _bell((t / 0.55) ** 2 + ((y - lower_edge - 0.40 * bottom_lip) / (0.30 * bottom_lip)) ** 2)
        shade = shade + (0.10 + 0.10 * v["lipstick"]) * gloss
        self.put("mouth", rows, alpha, self.tinted(self.lip, shade))
        # The inside: dark, with upper teeth and a hint of tongue.
        inner = torch.maximum(upper_edge - y, y - lower_edge)
        hollow = self.cover(inner) * ((gap * 160) - 0.3).clamp(0, 1) * alpha
        device = x.device
        dark = torch.tensor([0.27, 0.09, 0.09], device=device)[None, :, None, None]
        tongue = torch.tensor([0.62, 0.28, 0.27], device=device)[None, :, None, None]
        deep = _bell((t / 0.75) ** 2 + ((y - lower_edge) / (0.42 * gap + 0.004)) ** 2)
        self.put(None, rows, hollow, torch.lerp(dark, tongue, deep[:, None]))
        teeth = (0.35 + 0.25 * smile) * gap + 0.006
        row = self.cover((y - upper_edge) - teeth * (0.55 + 0.45 * arc), 0.004) * (1 - _ramp(t.abs(), 0.72, 0.95))
        ivory = torch.tensor([0.95, 0.92, 0.87], device=device)[None, :, None, None]
        bright = (0.80 + 0.2 * (self.base_light + self.key - 0.7)) * torch.ones_like(x)
        self.put(None, rows, row * hollow, self.tinted(ivory, bright + 0.12 * arc))
        # The line between closed lips.
        seam = self.cover((y - line).abs() - 0.0035 - 0.001 * arc, 0.004) * alpha * (1 - (gap * 60).clamp(max=1))
        self.put(None, rows, 0.75 * seam, self.lip * 0.42)

    def _eyes(self) -> None:
        v = self.value
        rows = self.rows(0.30, 0.64)
        front, y = self.front[:, rows], self.y[:, rows] - EYE[1]
        side = torch.where(front > 0, 1.0, -1.0)
        x = front * side - EYE[0]  # positive towards the temple
        size = 0.88 + 0.28 * v["eye_size"]
        half = 0.071 * size
        t = x / half
        tt = t * t
        arc = 1 - tt
        axis = -0.006 * t
        tall = 0.043 * size * (0.9 + 0.2 * v["eye_size"])
        lift = 1.08 - v["eye_closure"] * 1.08
        profile = arc * (1 + 0.12 * t)
        lower = axis + 0.024 * size * (0.55 + 0.45 * (1 - v["eye_closure"])) * (arc - 0.06 * t)
        shut = lower - 0.004
        upper = torch.lerp(shut, axis - tall * profile, lift.clamp(max=1.0)) - 0.006 * (lift - 0.85).clamp(min=0)
        brink = axis - tall * profile - 0.008
        outside = (t.abs() - 1.0) * half
        lid = torch.maximum(torch.maximum(brink - y, y - lower), outside)
        lid_alpha = self.cover(lid, 0.010)
        lid_light = self.skin_light[:, rows] - 0.035
        self.put("eyes", rows, lid_alpha, self.tinted(self.skin, lid_light, 0.14))
        slit = torch.maximum(torch.maximum(upper - y, y - lower), outside)
        opened = self.cover(slit) * ((lower - upper) * 110 - 0.9).clamp(0, 1)
        device = x.device
        white = torch.tensor([0.95, 0.94, 0.925], device=device)[None, :, None, None]
        ball = 0.96 + 0.06 * self.key - 0.26 * (1 - (y - upper) * 38).clamp_(0, 1) - 0.10 * tt.clamp(max=1)
        self.put("eyes", rows, opened, self.tinted(white, ball, 0.06))
        gaze_x = (v["gaze_x"] - 0.5) * 0.056 + 0.012 * self.turn
        gaze_y = (v["gaze_y"] - 0.5) * 0.024 - 0.005
        iris_x, iris_y = x - gaze_x * side, y - gaze_y
        distance = (iris_x * iris_x + iris_y * iris_y).sqrt_()
        radius = 0.0335 * (0.94 + 0.10 * v["eye_size"])
        iris = self.cover(distance - radius) * opened
        colour = _table(_IRIS, v["iris_colour"])
        tone = 1.0 + 0.30 * (iris_y * 26).clamp(-1, 1) - 0.45 * _ramp(distance, 0.022, 0.036)
        self.put(None, rows, iris, colour * tone[:, None])
        pupil = self.cover(distance - 0.0145, 0.003) * opened
        self.put(None, rows, pupil, torch.full_like(self.skin, 0.045))
        glint_x = iris_x * side - 0.012 * torch.where(self.light_x > 0, 1.0, -1.0)
        glint = self.cover((glint_x**2 + (iris_y + 0.012) ** 2).sqrt_() - 0.0075, 0.002) * opened
        self.put(None, rows, 0.92 * glint, torch.ones_like(self.skin))
        # Lash line on the moving lid, a faint one below, and the crease above.
        lash_colour = torch.lerp(self.hair * 0.25, self.skin * 0.12, 0.5)
        thick = 0.0058 + 0.0022 * t.clamp(-1, 1)
        reach = self.cover((t.abs() - 1.06) * half, 0.004)
        lash = self.cover((y - upper).abs() - thick, 0.003) * reach
        self.put("eyes", rows, 0.92 * lash, lash_colour)
        under = self.cover((y - lower - 0.001).abs() - 0.0025, 0.004) * reach
        self.put("eyes", rows, 0.30 * under, self.skin * 0.35)
        crease = self.cover((y - brink + 0.002).abs() - 0.002, 0.008) * (1 - _ramp(t.abs(), 0.6, 1.0))
        self.put(None, rows, 0.33 * crease, self.skin * 0.45)

    def _brows(self) -> None:
        v = self.value
        rows = self.rows(0.26, 0.54)
        front, y = self.front[:, rows], self.y[:, rows]
        x = front.abs() - 0.138
        half = 0.083
        t = x / half
        height = 0.384 - 0.042 * (v["brow_height"] - 0.5)
        tilt = -0.001 + 0.036 * (v["brow_tilt"] - 0.5)
        bend = t - 0.12
        spine = height - tilt * t + (0.004 + 0.016 * v["brow_arch"]) * (bend * bend - 0.4)
        thick = (0.0075 + 0.0105 * v["brow_thickness"]) * (1 - 0.5 * _ramp(t, 0.0, 1.05)) * _ramp(t, -1.25, -0.75)
        distance = torch.maximum((y - spine).abs() - thick, (t.abs() - 1) * half)
        alpha = self.cover(distance, 0.007) * (0.82 + 0.12 * v["brow_thickness"])
        colour = torch.lerp(self.hair * 0.62, self.skin * 0.36, 0.3)
        light = self.skin_light[:, rows]
        self.put("brows", rows, alpha * self.cover(self.head[:, rows]), self.tinted(colour, light))

    def _glasses(self) -> None:
        v = self.value
        rows = self.rows(0.32, 0.66)
        front, y = self.front[:, rows], self.y[:, rows] - 0.482
        x = front.abs()
        wide = (x - 0.132) / 0.104
        high = y / 0.078
        box = (wide**4 + high**4).sqrt_().sqrt_()
        ring = ((box - 1) * 0.088).abs() - 0.0062
        bridge = torch.maximum((y + 0.018 + 1.2 * x * x * 4).abs() - 0.0055, x - 0.034)
        temple = torch.maximum(torch.maximum((y + 0.026).abs() - 0.0055, 0.230 - x), self.head[:, rows])
        alpha = self.cover(torch.minimum(torch.minimum(ring, bridge), temple))
        alpha = alpha * v["glasses"]
        lens = self.cover((box - 1) * 0.088) * v["glasses"]
        self.put(None, rows, 0.05 * lens, torch.full_like(self.skin, 0.85))
        self.put("glasses", rows, alpha, torch.tensor([0.13, 0.11, 0.11], device=x.device)[None, :, None, None])
