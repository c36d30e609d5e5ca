"""Colours that people with any kind of colour vision can tell apart, and their contrast.

The hues are those of Okabe and Ito, "Color Universal Design" (2008), ordered so that neighbours differ in lightness as
well as in hue. There are only seven: a picture's labels, and the report's tables, name every class in words, so that
colour is never the only sign.
"""

from __future__ import annotations

from proposals.types import Source

Colour = tuple[int, int, int]

SKY = (86, 180, 233)
ORANGE = (230, 159, 0)
GREEN = (0, 158, 115)
YELLOW = (240, 228, 66)
BLUE = (0, 114, 178)
VERMILLION = (213, 94, 0)
PURPLE = (204, 121, 167)

HUES: tuple[Colour, ...] = (ORANGE, BLUE, YELLOW, GREEN, SKY, VERMILLION, PURPLE)
WHITE: Colour = (255, 255, 255)
INK: Colour = (17, 20, 24)

SOURCE_COLOURS: dict[Source, Colour] = {
    Source.GIVEN: WHITE,
    Source.SELECTIVE_SEARCH: SKY,
    Source.MULTIBOX: ORANGE,
}
SOURCE_NAMES: dict[Source, str] = {
    Source.GIVEN: "given",
    Source.SELECTIVE_SEARCH: "selective search",
    Source.MULTIBOX: "MultiBox",
}


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """``colour`` with ``share`` in [0, 1] of ``other`` in it."""
    r, g, b = (round((1 - share) * a + share * c) for a, c in zip(colour, other, strict=True))
    return r, g, b


def class_colour(label: int) -> Colour:
    """The colour of class ``label``: seven hues, then their tints, then their shades, then again from the start."""
    hue, round_ = HUES[label % len(HUES)], label // len(HUES) % 3
    return (hue, mix(hue, WHITE, 0.5), mix(hue, INK, 0.4))[round_]


def luminance(colour: Colour) -> float:
    """Relative luminance in [0, 1] as WCAG 2 defines it for sRGB."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: Colour, b: Colour) -> float:
    """WCAG 2 contrast ratio in [1, 21]."""
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever reads better on ``colour``."""
    return max((INK, WHITE), key=lambda ink: contrast(ink, colour))


def hex_colour(colour: Colour) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
