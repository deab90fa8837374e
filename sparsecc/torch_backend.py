"""`torch.compile(model, backend="sparsecc")`: layers with pruned weights run in compiled products.

Options of torch.compile, `options={...}`: "target", by default "cpu"; "effort", as of `sparsecc.compile`.

On a CPU every linear layer, product with a constant matrix, and convolution of one group whose weight has
zeros gets a product of `sparsecc.compile`, which is timed against torch's own operator on the shapes at hand;
where torch is faster, torch stays. All else runs in torch as before. On other targets the whole graph becomes
one program on the simulator.

For inference: while gradients are recorded, nothing is replaced. A weight that changed since is noticed by
its version, and its layer runs dense again; changes through `.data` or numpy have no version and go
unnoticed.
"""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparsecc.errors import UserError
from sparsecc.importers.torch_tensor import torch_library
from sparsecc.torch_layers import Constant, Replaceable, constants, find
from sparsecc.torch_products import Product, compile_product

log = logging.getLogger("sparsecc.torch")

TARGET = "cpu"
_OPTIONS = ("effort", "target")
# A weight with fewer zeros is not worth the search: nothing sparse is faster there.
_FEWEST_ZEROS = 0.3
# A gain below the noise of the clock is none.
_MARGIN = 0.95


@dataclass
class Decision:
    """What became of one layer."""

    layer: str
    shape: tuple[int, int]
    """Rows and columns of the weight as a matrix."""
    density: float
    positions: int
    """Columns that the product was timed with."""
    replaced: bool
    speedup: float | None
    """Time of torch's operator over that of the product; None where nothing was timed."""
    reason: str
    tensors: Sequence[weakref.ref[Any]] = field(default=(), repr=False)

    def __str__(self) -> str:
        what = "replaced" if self.replaced else "left to torch"
        size = f"{self.shape[0]}x{self.shape[1]}, {self.density:.0%} nonzero"
        return f"{self.layer} ({size}): {what}, {self.reason}"


_decisions: list[Decision] = []
_products: weakref.WeakValueDictionary[tuple[bytes, str], Product] = weakref.WeakValueDictionary()


def report(model: Any = None) -> list[Decision]:
    """What became of the layers that were compiled last, in their order; of one model where it is given."""
    latest: dict[tuple[Any, ...], Decision] = {}
    for decision in _decisions:
        tensors = [t for ref in decision.tensors if (t := ref()) is not None]
        latest[(*map(id, tensors), decision.layer)] = decision
    if model is None:
        return list(latest.values())
    known = {id(t): name for name, t in (*model.named_parameters(), *model.named_buffers())}
    found: list[Decision] = []
    for decision in latest.values():
        names = [known[id(t)] for ref in decision.tensors if (t := ref()) is not None and id(t) in known]
        if names:
            decision.layer = names[0].removeprefix("_orig_mod.").rpartition(".")[0] or names[0]
            found.append(decision)
    return found


def backend(
    graph_module: Any,
    inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """What torch.compile calls for each graph. Raises UserError for options that are not known."""
    given = dict(options or {})
    if unknown := set(given) - set(_OPTIONS):
        raise UserError(
            f"backend sparsecc has no option {', '.join(sorted(map(str, unknown)))}; it has "
            f"{', '.join(_OPTIONS)}"
        )
    target = given.get("target", TARGET)
    from sparsecc.target import CpuTarget, load_target

    found = load_target(target) if isinstance(target, str) else target
    torch = torch_library()
    known = constants(graph_module.graph, inputs)
    if torch.is_grad_enabled() and any(getattr(t, "requires_grad", False) for t in inputs):
        log.info("gradients are recorded: nothing is replaced; call the model under torch.inference_mode()")
        return graph_module.forward
    if isinstance(found, CpuTarget):
        return _with_products(torch, graph_module, known, found)
    return OnTarget(graph_module, known, target, given.get("effort", 1))


def _with_products(
    torch: Any, graph_module: Any, known: Mapping[Any, Constant], target: Any
) -> Callable[..., Any]:
    """The graph with products in the place of layers that they are faster than."""
    graph: Any = graph_module.graph
    _decisions[:] = [d for d in _decisions if all(ref() is not None for ref in d.tensors)]
    for layer in find(torch, graph, known):
        decision = Decision(
            layer.name, layer.shape, layer.density, 0, False, None, "",
            tuple(weakref.ref(t) for t in layer.constant.sources),
        )  # fmt: skip
        _decisions.append(decision)
        if (why := _left(torch, layer)) is not None:
            decision.reason = why
        else:
            product = Replaced(torch, layer, _product(layer, target), decision)
            name = f"sparsecc_{len(list(graph_module.children()))}_{layer.node.name}"
            graph_module.add_submodule(name, product.module())
            with graph.inserting_before(layer.node):
                made = graph.call_module(name, (*layer.operands, *layer.constant.nodes))
            made.meta = dict(layer.node.meta)
            layer.node.replace_all_uses_with(made)
            graph.erase_node(layer.node)
        log.info("%s", decision)
    graph.lint()
    graph_module.recompile()
    return graph_module.forward


def _left(torch: Any, layer: Replaceable) -> str | None:
    """Why a layer is not even tried."""
    weight = layer.constant.tensor
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        return f"its weight is {str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
    if layer.density > 1 - _FEWEST_ZEROS:
        return f"only {1 - layer.density:.0%} of its weight are zeros"
    if not bool(torch.isfinite(weight).all()):
        return "its weight has values that are not finite"
    return None


def _product(layer: Replaceable, target: Any) -> Product:
    """The compiled product of a weight; graphs that are compiled again for other shapes share it."""
    matrix = np.ascontiguousarray(layer.matrix)
    digest = hashlib.blake2b(matrix.tobytes(), digest_size=16)
    digest.update(str(matrix.shape).encode())
    key = digest.digest(), target.name
    if (product := _products.get(key)) is None:
        product = _products[key] = compile_product(matrix, target, layer.positions, layer.name)
    return product


class Replaced:
    """A layer as the graph calls it: the product, or torch's operator where that is faster or safer.

    Which of them is faster is found out once for every power of two of positions, when it first comes.
    """

    def __init__(self, torch: Any, layer: Replaceable, product: Product, decision: Decision):
        self.torch, self.layer, self.product, self.decision = torch, layer, product, decision
        self.versions = layer.constant.versions()
        self.faster: dict[int, bool] = {}
        if (example := layer.example()) is not None:
            with torch.no_grad():
                self._time(layer.count(example), example, layer.constant.tensor, layer.example_bias())

    def module(self) -> Any:
        """This as a torch.nn.Module."""

        class Product(self.torch.nn.Module):
            def forward(self, *operands: Any) -> Any:
                return call(*operands)

        call = self.__call__
        return Product()

    def __call__(self, x: Any, weight: Any, bias: Any, *sources: Any) -> Any:
        torch = self.torch
        if (
            x.dtype != torch.float32
            or x.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
            or (torch.is_grad_enabled() and any(t.requires_grad for t in (x, *sources)))
            or not self.layer.constant.unchanged(sources, self.versions)
        ):
            return self.layer.dense(x, weight, bias)
        positions = self.layer.count(x)
        if not positions:
            return self.layer.dense(x, weight, bias)
        if (size := positions.bit_length()) not in self.faster:
            self._time(positions, x, weight, bias)
        if self.faster[size]:
            return self.layer.sparse(self.product, x, bias)
        return self.layer.dense(x, weight, bias)

    def _time(self, positions: int, x: Any, weight: Any, bias: Any) -> None:
        """In turns, both with what they need around the product itself."""
        ours, theirs = self.product.race(
            lambda: self.layer.sparse(self.product, x, bias), lambda: self.layer.dense(x, weight, bias)
        )
        faster = ours < _MARGIN * theirs
        self.faster[positions.bit_length()] = faster
        decision = self.decision
        decision.positions, decision.replaced, decision.speedup = positions, faster, theirs / ours
        decision.reason = (
            f"{1e6 * ours:.0f} us by {self.product.kernel}, {1e6 * theirs:.0f} us dense, "
            f"{theirs / ours:.2f}x at {positions} positions"
        )


class OnTarget:
    """A graph as a program on the simulator of a target, compiled for each shape that comes."""

    def __init__(self, graph_module: Any, known: Mapping[Any, Constant], target: Any, effort: int):
        self.graph_module, self.target, self.effort = graph_module, target, effort
        placeholders = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
        self.constant = [n in known for n in placeholders]
        self.networks: dict[Any, Any] = {}

    def __call__(self, *inputs: Any) -> Any:
        torch = torch_library()
        from sparsecc.network_compiler import compile_network

        fixed = {i: t for i, (t, c) in enumerate(zip(inputs, self.constant, strict=True)) if c}
        fixed |= {i: t for i, t in enumerate(inputs) if not isinstance(t, torch.Tensor)}
        given = [t.detach() for i, t in enumerate(inputs) if i not in fixed]
        changes = tuple((id(t), getattr(t, "_version", t)) for t in fixed.values())
        key = (*(tuple(t.shape) for t in given), changes)
        if key not in self.networks:
            module = _frozen(torch, self.graph_module, fixed)
            self.networks[key] = compile_network(module, target=self.target, inputs=given, effort=self.effort)
        network = self.networks[key]
        found = network(*(t.numpy() for t in given))
        arrays = (found,) if len(network.outputs) == 1 else found
        return tuple(torch.from_numpy(a) for a in arrays)


def _frozen(torch: Any, graph_module: Any, fixed: Mapping[int, Any]) -> Any:
    """The graph as a module with some of its inputs built in."""

    class Frozen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()  # pyright: ignore[reportUnknownMemberType]
            self.graph_module = graph_module
            for i, value in fixed.items():
                if isinstance(value, torch.Tensor):
                    self.register_buffer(f"fixed{i}", value.detach())

        def forward(self, *given: Any) -> Any:
            rest = iter(given)
            total = len(given) + len(fixed)
            held = [getattr(self, f"fixed{i}", fixed.get(i)) for i in range(total)]
            return self.graph_module(*(held[i] if i in fixed else next(rest) for i in range(total)))

    return Frozen().eval()
