"""Small pictures written into the page itself: examples that are images, and weights by sign and size."""

import base64
import math
import struct
import zlib

import numpy as np
from jaxtyping import Float, UInt8

from funcnet.data import Dataset

SMALLEST = 8
"""Pixels along a side: fewer features than its square may well be a table."""
PLUS, MINUS = (222, 66, 50), (52, 112, 235)
"""The colours of positive and negative weights, as in the style."""
COLOUR_TYPES = {2: 0, 3: 6}  # of PNG, by rank: grey, and red, green, blue with opacity


def side_of(dataset: Dataset) -> int | None:
    """The side of the square images that the examples are; None if they are none."""
    side = math.isqrt(dataset.x.shape[1])
    return side if dataset.scaled and side >= SMALLEST and side**2 == dataset.x.shape[1] else None


def png(pixels: UInt8[np.ndarray, "h w ..."]) -> bytes:
    """A picture in PNG: grey from (h, w), colours with opacity from (h, w, 4)."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[pixels.ndim], 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(pixels))  # 0: no filter
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    )


def source(pixels: UInt8[np.ndarray, "h w ..."]) -> str:
    """A picture as the address of itself."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def is_ink(dataset: Dataset) -> bool:
    """Whether most of the pixels are empty, so that what is drawn looks best as ink on paper."""
    return float(np.median(dataset.x[:1000])) < 0.1


def grey(x: Float[np.ndarray, " d"], side: int, ink: bool) -> UInt8[np.ndarray, "side side"]:
    """An example as a picture; where it is ink, 1 is black."""
    light = np.clip(1 - x if ink else x, 0, 1)
    return np.round(255 * light).astype(np.uint8).reshape(side, side)


def diverging(w: Float[np.ndarray, " d"], side: int, limit: float) -> UInt8[np.ndarray, "side side 4"]:
    """Weights as a picture: the colour tells the sign, the opacity the size, so that 0 is the page's own colour."""
    opacity = np.round(255 * np.clip(np.abs(w) / limit, 0, 1)).astype(np.uint8)
    colours = np.where(w[:, None] > 0, np.array(PLUS, np.uint8), np.array(MINUS, np.uint8))
    return np.concatenate([colours, opacity[:, None]], axis=1).reshape(side, side, 4)
