"""Where the patches of a convolution lie in its image, so that a product finds them there.

With the batch innermost, row (channel, i, j) of the patches is, for one row of results (a *strip*), a run of
the padded image; those of the next strip begin a constant number of elements later. Columns of images with a
stride are sorted by phase (column modulo stride) first, which makes them runs, too. So a load that takes a
list of places reads patches which nobody has written. Plain numpy, knows no IR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsecc.cover.metaops import Int32
from sparsecc.host.operator import Window


@dataclass(frozen=True, eq=False)
class Strips:
    """X [K, strips * width] in an image: row k of strip s is the run that begins at places[k] + s * step."""

    strips: int
    width: int
    step: int
    places: Int32
    """[K], elements from the first of the image."""
    elements: int
    """Of the image."""

    def tiles(self, cols: int) -> int:
        """Column tiles of a strip; no tile holds columns of two."""
        return -(-self.width // cols)

    def columns(self, cols: int) -> int:
        """Of all tiles."""
        return self.strips * self.tiles(cols) * cols

    def widths(self, cols: int) -> list[int]:
        """Widths of panels in column tiles: parts of a strip, or several whole ones."""
        tiles = self.tiles(cols)
        parts = {1 << i for i in range(tiles.bit_length()) if 1 << i < tiles}
        whole = {tiles * min(1 << i, self.strips) for i in range(self.strips.bit_length() + 1)}
        return sorted(parts | whole)


@dataclass(frozen=True, eq=False)
class Image:
    """The image that patches are found in, and how it is made of x: as other patches, of a lower kernel."""

    strips: Strips
    window: Window | None
    """Patches of this window are the image: a kernel row as wide as the stride; None where x is the image."""
    rows: tuple[int, ...]
    """Which of them: (channel, phase), those that are used."""


def image_of(window: Window, used: Sequence[int] | None) -> Image:
    """The image for the patches of a window; used: which rows, counted channel by channel, None for all."""
    w = window
    row = np.arange(w.outer * w.kernel_h * w.kernel_w) if used is None else np.asarray(used, np.int64)
    channel, inside = np.divmod(row, w.kernel_h * w.kernel_w)
    i, j = np.divmod(inside, w.kernel_w)
    shift, phase = np.divmod(j * w.dilation_w, w.stride_w)
    # Just what the patches reach.
    height = (w.out_height - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1
    reach = (w.out_width - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w + 1
    width = -(-reach // w.stride_w)
    planes, plane = np.unique(channel * w.stride_w + phase, return_inverse=True)
    padded = w.pad_top != 0 or w.pad_left != 0 or height > w.height or reach > w.width
    in_place = not padded and w.stride_w == 1
    if in_place:
        height, width, plane = w.height, w.width, channel
    pitch = width * w.inner
    places = (plane * height + i * w.dilation_h) * pitch + shift * w.inner
    elements = w.elements if in_place else len(planes) * height * pitch
    strips = Strips(
        w.out_height, w.out_width * w.inner, w.stride_h * pitch, places.astype(np.int32), elements
    )
    if in_place:
        return Image(strips, None, ())
    of_image = Window(
        w.outer, w.height, w.width, w.inner, height, width, 1, w.stride_w, 1, w.stride_w,
        pad_top=w.pad_top, pad_left=w.pad_left,
    )  # fmt: skip
    return Image(strips, of_image, tuple(planes.tolist()))
