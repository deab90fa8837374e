"""The products of a network, each with what its neighbours contributed, for `sparsecc explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from sparsecc.codegen.network import name_of, steps
from sparsecc.dialects.host import Tensor
from sparsecc.importers.matrix import make_csr
from sparsecc.importers.network import read_network
from sparsecc.interpreters.host import weight_of
from sparsecc.network.propagation import LayerGain, propagated
from sparsecc.passes.convert_nn_to_host import ConvertNnToHostPass

# Any target with floats: which products there are does not depend on it.
_ANY = "scalesim-ws16"


@dataclass(frozen=True)
class NetworkProduct:
    """One product of a network."""

    name: str
    matrix: Any
    """W [M, K] as scipy's CSR."""
    n: int
    gain: LayerGain | None
    """What its neighbours took from it."""


def products_of(
    source: Any,
    *,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[NetworkProduct], list[str]]:
    """The products with constant weights in their order, and the layers of which nothing is left.

    Zeros and constants are carried across layers first. Raises UserError.
    """
    progress("reading the network")
    module, _ = read_network(source, batch=batch, dims=dims)
    progress("sparse-propagate")
    found = propagated(module)
    gains = {gain.name: gain for gain in found.layers}
    lowered: ModuleOp = found.module.clone()
    progress("choosing operators")
    ConvertNnToHostPass(target=_ANY).apply(Context(), lowered)
    main = next(op for op in lowered.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "main")
    products: list[NetworkProduct] = []
    seen: set[str] = set()
    for call in steps(main):
        if not isinstance(call, func.CallOp) or call.callee.string_value() in seen:
            continue
        # Steps of a recurrent layer call one function.
        seen.add(call.callee.string_value())
        weight, name = weight_of(lowered, call), name_of(call)
        pattern = weight.pattern
        values = weight.data.astype(np.float32)
        matrix = make_csr(values, pattern.indices, pattern.indptr, weight.shape)
        n = cast(Tensor, call.results[0].type).get_shape()[1]
        products.append(NetworkProduct(name, matrix, n, gains.get(name)))
    return products, found.gone
