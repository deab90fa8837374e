"""Which calls of a graph of torch multiply by constant weights, and how torch and a product compute them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.importers.torch_tensor import torch_library
from sparsecc.torch_products import Product


@dataclass(frozen=True, eq=False)
class Constant:
    """A node whose value is known: a parameter, or made of parameters alone."""

    tensor: Any
    sources: tuple[Any, ...]
    """The parameters that it depends on."""
    nodes: tuple[Any, ...]
    """Where the graph gets them from."""

    def versions(self) -> tuple[int, ...]:
        return tuple(version(t) for t in self.sources)

    def unchanged(self, found: Sequence[Any], versions: Sequence[int]) -> bool:
        """Whether the graph is called with the same parameters as when it was compiled."""
        return all(
            t.data_ptr() == s.data_ptr() and version(t) == v
            for t, s, v in zip(found, self.sources, versions, strict=True)
        )


def version(tensor: Any) -> int:
    """Counts changes in place; tensors of inference mode are not counted, nor changed outside of it."""
    return -1 if tensor.is_inference() else tensor._version


# What makes a constant of constants: masks of pruning, transposed weights.
_FUNCTIONS = {"mul", "t", "transpose", "to", "contiguous", "detach", "permute"}


def constants(graph: Any, inputs: Sequence[Any]) -> dict[Any, Constant]:
    """The nodes of a graph of dynamo whose values do not change from call to call, but by training."""
    known: dict[Any, Constant] = {}
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    for node, value in zip(placeholders, inputs, strict=True):
        if "_dynamo_static_input_type" in (node.meta.get("tensor_dict") or {}):
            known[node] = Constant(value, (value,), (node,))
    for node in graph.nodes:
        name = getattr(node.target, "__name__", node.target)
        if node.op not in ("call_function", "call_method") or name not in _FUNCTIONS:
            continue
        operands = [a for a in node.args if hasattr(a, "op")]
        if (
            not operands
            or not all(a in known for a in operands)
            or any(hasattr(v, "op") for v in node.kwargs.values())
        ):
            continue
        held: list[Any] = [known[a].tensor.detach() if hasattr(a, "op") else a for a in node.args]
        function = node.target if node.op == "call_function" else getattr(torch_library().Tensor, name)
        sources = {
            id(t): (t, n) for a in operands for t, n in zip(known[a].sources, known[a].nodes, strict=True)
        }
        value = function(*held, **node.kwargs)
        known[node] = Constant(value, *(tuple(x) for x in zip(*sources.values(), strict=True)))
    return known


@dataclass(eq=False)
class Replaceable:
    """A call that multiplies by a constant weight."""

    torch: Any
    node: Any
    name: str
    x: Any
    """The node of its input."""
    weight: Any
    bias: Any
    constant: Constant
    transposed: bool = False
    """The weight is [K, M], as the right factor of a product is."""
    windows: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Stride, padding and dilation of a convolution; empty otherwise."""

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The weight as W [M, K]."""
        weight = self.constant.tensor.detach()
        if self.windows:
            weight = weight.reshape(weight.shape[0], -1)
        return (weight.t() if self.transposed else weight).numpy()

    @property
    def shape(self) -> tuple[int, int]:
        weight = self.constant.tensor
        if self.windows:
            return weight.shape[0], math.prod(weight.shape[1:])
        return tuple(weight.shape[::-1] if self.transposed else weight.shape)

    @property
    def density(self) -> float:
        weight = self.constant.tensor
        return int((weight != 0).sum()) / max(1, weight.numel())

    @property
    def operands(self) -> tuple[Any, Any, Any]:
        return self.x, self.weight, self.bias

    def example(self) -> Any:
        """A random input of the extents that the graph was traced with."""
        found = self.x.meta.get("example_value")
        if found is None:
            return None
        extents = [int(getattr(getattr(d, "node", None), "hint", None) or d) for d in found.shape]
        return self.torch.rand(extents) if math.prod(extents) else None

    def example_bias(self) -> Any:
        return None if self.bias is None else self.torch.zeros(self.shape[0])

    @property
    def positions(self) -> int:
        example = self.example()
        return 1 if example is None else self.count(example)

    def count(self, x: Any) -> int:
        """Columns of the product."""
        if not self.windows:
            return x.numel() // max(1, x.shape[-1])
        return x.shape[0] * math.prod(self._extents(x))

    def _extents(self, x: Any) -> list[int]:
        kernel = self.constant.tensor.shape[2:]
        w = self.windows
        return [
            (x.shape[2 + i] + 2 * w["padding"][i] - w["dilation"][i] * (kernel[i] - 1) - 1) // w["stride"][i]
            + 1
            for i in range(2)
        ]

    def dense(self, x: Any, weight: Any, bias: Any) -> Any:
        """As torch computes it."""
        f = self.torch.nn.functional
        if self.windows:
            return f.conv2d(x, weight, bias, **self.windows)
        if self.transposed:
            y = self.torch.matmul(x, weight)
            return y if bias is None else y + bias
        return f.linear(x, weight, bias)

    def sparse(self, product: Product, x: Any, bias: Any) -> Any:
        """By the product."""
        x = x.detach()
        if not self.windows:
            y = product.rows(x.reshape(-1, x.shape[-1]), bias)
            return y.reshape(*x.shape[:-1], y.shape[-1])
        kernel = tuple(self.constant.tensor.shape[2:])
        w = self.windows
        plain = kernel == w["stride"] == w["dilation"] == (1, 1) and w["padding"] == (0, 0)
        patches = (
            x.reshape(*x.shape[:2], -1)
            if plain
            else self.torch.nn.functional.unfold(x, kernel, w["dilation"], w["padding"], w["stride"])
        )
        images = [product.columns(patches[i]) for i in range(x.shape[0])]
        y = self.torch.stack(images) if len(images) > 1 else images[0][None]
        if bias is not None:
            y += bias[:, None]
        return y.reshape(x.shape[0], -1, *self._extents(x))


def find(torch: Any, graph: Any, known: Mapping[Any, Constant]) -> Iterator[Replaceable]:
    """The products with constant weights, in their order."""
    f = torch.nn.functional
    linears = {f.linear, torch._C._nn.linear}
    for node in list(graph.nodes):
        if node.op not in ("call_function", "call_method") or node.kwargs.keys() - {"bias"}:
            continue
        found = None
        arguments = [*node.args, *([node.kwargs["bias"]] if "bias" in node.kwargs else [])]
        if node.target in linears:
            found = _replaceable(torch, node, known, *arguments)
        elif getattr(node.target, "__name__", node.target) in ("matmul", "mm"):
            found = _replaceable(torch, node, known, *arguments, transposed=True)
        elif node.target is torch.addmm and len(arguments) == 3:
            found = _replaceable(
                torch, node, known, arguments[1], arguments[2], arguments[0], transposed=True
            )
        elif node.target is torch.conv2d and len(arguments) >= 2:
            found = _convolution(torch, node, known, *arguments)
        if found is not None:
            yield found


def _replaceable(
    torch: Any, node: Any, known: Mapping[Any, Constant], x: Any, weight: Any, bias: Any = None,
    transposed: bool = False, windows: Mapping[str, Any] | None = None,
) -> Replaceable | None:  # fmt: skip
    constant = known.get(weight)
    if constant is None or x in known or (bias is not None and not hasattr(bias, "op")):
        return None
    if constant.tensor.dim() != (4 if windows else 2) or constant.tensor.layout != torch.strided:
        return None
    if bias is not None and (bias not in known or known[bias].tensor.dim() != 1):
        return None
    stack = node.meta.get("nn_module_stack")
    path = list(stack.values())[-1][0] if stack else ""
    return Replaceable(torch, node, path or node.name, x, weight, bias, constant, transposed, windows or {})


def _convolution(
    torch: Any, node: Any, known: Mapping[Any, Constant], x: Any, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Replaceable | None:  # fmt: skip
    if groups != 1 or isinstance(padding, str) or x.meta["example_value"].dim() != 4:
        return None
    windows = {
        name: (v, v) if isinstance(v, int) else tuple(v)
        for name, v in (("stride", stride), ("padding", padding), ("dilation", dilation))
    }
    return _replaceable(torch, node, known, x, weight, bias, windows=windows)
