"""Small pictures to choose from, as they are sent to the page's shelves."""

import base64
import io

from PIL import Image

from situ.core.images import Images, resize

THUMB = 128  # pixels at most on a side

Card = dict[str, str]  # "name"; "src", its picture as an address; "note", more about it


def small(images: Images) -> Images:
    """At the size of a card."""
    return resize(images, THUMB) if images.shape[-1] > THUMB else images


def data_address(image: Image.Image, kind: str = "JPEG") -> str:
    """A picture as an address that is its own content."""
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 88} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
