"""The products of a network, each with what its neighbours contributed, for `sparsecc explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.passes import ModulePass

from sparsecc.codegen.network import name_of, steps
from sparsecc.dialects.host import Tensor
from sparsecc.importers.matrix import make_csr
from sparsecc.importers.network import read_network
from sparsecc.interpreters.host import weight_of
from sparsecc.masks import masked
from sparsecc.network.lower import types_of
from sparsecc.network.propagation import LayerGain, propagated
from sparsecc.network.quantised import integer_passes, is_quantised
from sparsecc.passes.convert_nn_to_host import ConvertNnToHostPass
from sparsecc.stages import run_passes
from sparsecc.target.load import load_target

# Any target with floats and bytes: which products there are depends only on which of them is chosen.
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
    target: str,
    *,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    masks: Mapping[str, str | NDArray[Any]] | None = None,
    propagate: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[NetworkProduct], list[str]]:
    """The products with constant weights in their order, and the layers of which nothing is left.

    target: a preset or .toml file; where it multiplies bytes, those of a quantised network are in bytes.
    masks: of pruning, by layer. propagate: carry zeros and constants across layers first. Raises UserError.
    """
    progress("reading the network")
    module, _ = read_network(source, batch=batch, dims=dims)
    if masks:
        module = masked(module, masks)
    gains: dict[str, LayerGain] = {}
    gone: list[str] = []
    if propagate:
        progress("sparse-propagate")
        found = propagated(module)
        module, gone = found.module, found.gone
        gains = {gain.name: gain for gain in found.layers}
    progress("choosing operators")
    in_bytes = "i8" in types_of(load_target(target)) and is_quantised(module)
    passes: list[ModulePass] = [ConvertNnToHostPass(target=_ANY, dtype="i8" if in_bytes else "")]
    if in_bytes:
        passes = [*integer_passes(False, "auto"), *passes]
    lowered = run_passes(module, passes, lambda _: None, progress)[-1].module
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
    return products, gone
