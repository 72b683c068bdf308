"""The picture an adjuster sees: the photo with masks, outlines and labels drawn on it, derived and without metadata."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from services.common.vision.labels import Rect, place
from services.common.vision.outlines import Ring, area, rings
from services.common.vision.resample import downscale, resize

Kind = Literal["damage", "fake", "part", "review"]


@dataclass(frozen=True, slots=True)
class _Style:
    colour: tuple[int, int, int]
    text: tuple[int, int, int]
    fill: float  # opacity of the mask
    line: float  # outline width, in units (see draw_overlay)


_WHITE, _BLACK = (255, 255, 255), (16, 16, 16)
# Colours that people with any colour vision can tell apart (Okabe & Ito 2008). In drawing order: what matters most
# comes last and lies on top.
_STYLES: dict[Kind, _Style] = {
    "part": _Style((0, 114, 178), _WHITE, 0.12, 1.0),
    "fake": _Style((170, 68, 136), _WHITE, 0.28, 1.6),
    "review": _Style((240, 180, 20), _BLACK, 0.32, 1.8),
    "damage": _Style((213, 62, 0), _WHITE, 0.36, 1.8),
}
_ORDER = list(_STYLES)

_LEAST_SIDE = 640  # smaller photos are enlarged, so that there is room for text
_SCALE = 2  # lines and label plates are drawn at twice the size and averaged: Pillow draws without antialiasing


@dataclass(frozen=True, eq=False, slots=True)
class OverlayItem:
    """One thing to draw. `mask`, bool [h, w] of any size, covers the whole photo; without one the box is drawn."""

    box: tuple[float, float, float, float]  # normalised xyxy
    label: str
    kind: Kind
    mask: NDArray[np.bool_] | None = None


def draw_overlay(pixels: NDArray[np.uint8], items: Sequence[OverlayItem], max_side: int = 1280) -> bytes:
    """uint8 [h, w, 3] and what was found on it -> a WebP picture whose longer side is at most `max_side` pixels."""
    picture = Image.fromarray(_fitted(pixels, max_side))
    # All widths grow with the picture, so that it looks the same at any size; on a strip the height is what is scarce.
    unit = min(max(picture.size) / 640, min(picture.size) / 200)
    ordered = sorted(items, key=lambda item: _ORDER.index(item.kind))
    lines = Image.new("RGBA", (picture.width * _SCALE, picture.height * _SCALE))
    for item in ordered:
        _draw_shape(picture, lines, item, unit)

    font_size = max(11.0, 13 * unit)
    font, margin = ImageFont.load_default(font_size), font_size / 3
    texts = [_shortened(item.label, font, picture.width - 2 * margin) for item in reversed(ordered)]
    labelled = [(item, text) for item, text in zip(reversed(ordered), texts, strict=True) if text]
    height = 1.6 * font_size
    sizes = [(font.getlength(text) + 2 * margin, height) for _, text in labelled]
    plates = place([_scaled(item.box, picture.size) for item, _ in labelled], sizes, picture.size)

    draw = ImageDraw.Draw(lines)
    for (item, _), plate in zip(labelled, plates, strict=True):
        corners = [_SCALE * side for side in plate]
        draw.rounded_rectangle(corners, radius=_SCALE * height / 3, fill=(*_STYLES[item.kind].colour, 235))
    lines = lines.reduce(_SCALE)
    picture.paste(lines, mask=lines)
    draw = ImageDraw.Draw(picture)
    for (item, text), (x0, y0, _, y1) in zip(labelled, plates, strict=True):
        draw.text((x0 + margin, (y0 + y1) / 2), text, _STYLES[item.kind].text, font, anchor="lm")
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=82, method=2)
    return data.getvalue()


def _fitted(pixels: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    grow = min(_LEAST_SIDE, max_side) / max(height, width)
    if grow <= 1:
        return downscale(pixels, max_side)
    return resize(pixels, max(1, round(height * grow)), max(1, round(width * grow)))


def _draw_shape(picture: Image.Image, lines: Image.Image, item: OverlayItem, unit: float) -> None:
    """Fill on the picture, outline on the enlarged layer of lines."""
    style, scale = _STYLES[item.kind], np.array(picture.size)
    draw = ImageDraw.Draw(lines)
    # A dark rim keeps the outline visible on a car of the same colour.
    strokes = (((0, 0, 0, 110), style.line + 1), ((*style.colour, 255), style.line))
    if item.mask is None:
        for colour, width in strokes:
            box = _scaled(item.box, lines.size)
            draw.rounded_rectangle(box, 6 * unit, outline=colour, width=max(_SCALE, round(width * unit * _SCALE)))
        return
    cover = Image.new("L", picture.size)
    fill = ImageDraw.Draw(cover)
    height, width = item.mask.shape
    for ring in rings(item.mask):
        share = _smooth(ring) / (width, height)
        fill.polygon((share * scale).ravel().tolist(), fill=round(255 * style.fill) if area(ring) > 0 else 0)
        points = (share * lines.size).ravel().tolist()
        for colour, thickness in strokes:
            draw.line(points, colour, max(_SCALE, round(thickness * unit * _SCALE)), joint="curve")
    if touched := cover.getbbox():
        picture.paste(style.colour, touched, cover.crop(touched))


def _smooth(ring: Ring) -> Ring:
    """The ring without the stairs of its grid; every point moves by less than a cell, so thin scratches survive."""
    points = ring[:-1]
    for _ in range(2):
        points = (np.roll(points, 1, 0) + 2 * points + np.roll(points, -1, 0)) / 4
    return np.concatenate([points, points[:1]])


def _scaled(box: tuple[float, float, float, float], size: tuple[int, int]) -> Rect:
    width, height = size
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _shortened(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """One line of text that fits into `width` pixels."""
    text = " ".join(label.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""
