"""A compiled product, called on torch tensors without copying them to numpy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.importers.torch_tensor import torch_library
from sparsecc.target import CpuTarget

PANEL = 16
# Seconds of each turn in which two ways are timed, and turns.
TURN, TURNS = 0.01, 4


@dataclass(eq=False)
class Product:
    """W [M, K] times tensors of float32, in as many threads as torch uses."""

    artifact: Any

    @property
    def kernel(self) -> str:
        return self.artifact.product.variant.name

    def columns(self, x: Any) -> Any:
        """W x [M, N] of x [K, N]."""
        torch = torch_library()
        x = x.contiguous()
        y = torch.empty(self.artifact.operator.shape[0], x.shape[1])
        self.artifact(x.detach().numpy(), out=y.numpy(), threads=torch.get_num_threads())
        return y

    def rows(self, x: Any, bias: Any) -> Any:
        """x WT + bias [N, M] of x [N, K]: by panels of 16 positions, which both transpose in the cache."""
        torch = torch_library()
        m, n, k = self.artifact.operator.shape[0], *x.shape
        if n == 1:
            y = self.columns(x.reshape(k, 1)).reshape(1, m)
            return y if bias is None else y + bias
        panels, full = -(-n // PANEL), n // PANEL
        packed = torch.empty(panels, k, PANEL)
        packed[:full] = x[: full * PANEL].reshape(full, PANEL, k).transpose(1, 2)
        if full < panels:
            packed[full, :, : n - full * PANEL] = x[full * PANEL :].t()
            packed[full, :, n - full * PANEL :] = 0
        held = torch.empty(panels, m, PANEL)
        self.artifact(packed.numpy(), out=held.numpy(), threads=torch.get_num_threads())
        apart = held.transpose(1, 2)
        if bias is not None:
            wide = torch.empty(panels, PANEL, m)
            torch.add(apart, bias, out=wide)
        else:
            wide = apart.contiguous()
        return wide.reshape(panels * PANEL, m)[:n]

    @staticmethod
    def race(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float]:
        """Seconds of one call of each: the best of several turns."""
        best = [float("inf")] * 2
        ways = (ours, theirs)
        for way in ways:
            way()
        for _ in range(TURNS):
            for i, way in enumerate(ways):
                calls, begin = 0, time.perf_counter()
                while (took := time.perf_counter() - begin) < TURN or not calls:
                    way()
                    calls += 1
                best[i] = min(best[i], took / calls)
        return best[0], best[1]


def compile_product(matrix: NDArray[np.float32], target: CpuTarget, n: int, name: str) -> Product:
    """The product of a matrix [M, K] for about n positions. Raises UserError."""
    from sparsecc.compiler import compile

    return Product(compile(matrix, target=target, n=max(1, n), name=name))
