"""Convolutions whose patches are found by address: which places the code of a plan has for rows of X.

`host_im2col` would write every patch; here row (channel, kernel row, kernel column) of the patches is, for
one row of results, a run of the padded image, so that it has one place relative to the first
(runtime/cpu/conv.h). Columns of images with a stride are sorted by phase first, which makes them runs, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_int64, c_size_t, c_void_p
from dataclasses import dataclass

import numpy as np

from sparsecc.cpu.plan import Indices
from sparsecc.host.operator import Window


class ImageStruct(Structure):
    _fields_ = [
        (name, c_int64)
        for name in (
            "channels", "height", "width", "inner", "top", "left", "rows", "phases", "segment", "in_place",
        )
    ]  # fmt: skip


class ConvStruct(Structure):
    _fields_ = [
        ("line", c_void_p), ("image", ImageStruct), ("strips", c_int64), ("width", c_int64),
        ("step", c_int64),
    ]  # fmt: skip


class ConvCallStruct(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("conv", "x", "y", "residual", "padded", "scratch")),
        ("each", c_size_t),
    ]


@dataclass(frozen=True, eq=False)
class Patches:
    """Where the patches of a window lie in the padded image."""

    image: tuple[int, ...]
    """The fields of sc_image."""
    strips: int
    width: int
    step: int
    places: Indices
    """[K] elements from the first row of patches, for the rows that are used."""

    def padded(self, lanes: int) -> int:
        """Floats of the padded image; a vector more may be read: sc_conv_padded."""
        channels, rows, phases, segment, in_place = (self.image[i] for i in (0, 6, 7, 8, 9))
        return 0 if in_place else -(-(channels * rows * phases * segment + lanes) // 16) * 16

    def scratch(self, m: int, lanes: int) -> int:
        """Floats of scratch panels of a thread, for M rows of W: sc_conv_scratch."""
        return -(-m * lanes // 16) * 16 if self.width < lanes else 0

    def text(self) -> str:
        """The structure but its first field, as a C initialiser."""
        return f"{{{', '.join(map(str, self.image))}}}, {self.strips}, {self.width}, {self.step}"


def patches_of(window: Window, used: Sequence[int] | None, lanes: int) -> Patches:
    """The patches of a window; used: which rows, counted channel by channel, None for all."""
    w = window
    phases = w.stride_w
    rows = (w.out_height - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1
    # The last column a patch reaches, and all of the phase it belongs to.
    columns = (w.out_width - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w + 1
    segment = -(-columns // phases) * w.inner
    padded = w.pad_top or w.pad_left or rows > w.height or columns > w.width
    in_place = not padded and phases == 1 and w.out_width * w.inner >= lanes
    if in_place:
        rows, segment = w.height, w.width * w.inner
    pitch = phases * segment
    count = w.outer * w.kernel_h * w.kernel_w
    row = np.arange(count) if used is None else np.asarray(used, np.int64)
    channel, inside = np.divmod(row, w.kernel_h * w.kernel_w)
    i, j = np.divmod(inside, w.kernel_w)
    column = j * w.dilation_w
    places = channel * rows * pitch + i * w.dilation_h * pitch
    places += column % phases * segment + column // phases * w.inner
    image = (w.outer, w.height, w.width, w.inner, w.pad_top, w.pad_left, rows, phases, segment, int(in_place))
    return Patches(image, w.out_height, w.out_width * w.inner, w.stride_h * pitch, places.astype(np.int64))
