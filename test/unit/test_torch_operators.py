# Functions of torch, which the checker does not see, are lambdas of values without types.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
"""Every operator of torch that is read, against torch itself: programs exported from one function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecc.importers.torch_export import export_module, import_torch
from sparsecc.interpreters.sparse import run_module

torch: Any = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
F: Any = torch.nn.functional
Function = Callable[..., Any]


class Wrapped(torch.nn.Module):
    """A function as a module; its weights are buffers."""

    def __init__(self, function: Function, weights: Sequence[Any] = ()):
        super().__init__()
        self.function, self.count = function, len(weights)
        for i, w in enumerate(weights):
            self.register_buffer(f"w{i}", w)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs, *(getattr(self, f"w{i}") for i in range(self.count)))


def compare(model: Any, inputs: Sequence[Any], relative: float = 2e-5) -> None:
    """The program of the model gives what torch gives."""
    model = model.eval()
    module = import_torch(export_module(model, inputs))
    module.verify()
    with torch.no_grad():
        wanted = model(*inputs)
    flat: list[Any] = []

    def add(value: Any) -> None:
        if isinstance(value, list | tuple):
            for part in value:
                add(part)
        else:
            flat.append(value)

    add(wanted)
    found = run_module(module, *(x.numpy() for x in inputs))
    assert len(found) == len(flat)
    for ours, theirs in zip(found, flat, strict=True):
        array = theirs.detach().numpy()
        assert ours.shape == array.shape
        assert ours.dtype == array.dtype
        np.testing.assert_allclose(
            ours.astype(np.float64), array.astype(np.float64), rtol=relative, atol=relative
        )


def real(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(
        np.random.default_rng(seed + len(shape)).standard_normal(shape).astype(np.float32)
    )


def whole(*shape: int, low: int = -4, high: int = 5) -> Any:
    return torch.from_numpy(np.random.default_rng(len(shape)).integers(low, high, shape))


def pruned(*shape: int) -> Any:
    w = real(*shape, seed=7)
    return w * (real(*shape, seed=8) > 0.5)


def _written(x: Any) -> Any:
    y = torch.empty(5, 4)
    y[:2] = x[1:]
    y[2:] = x + 1
    y[:, 1:2] = 0
    return y


X = (3, 4)
ONE: dict[str, Function] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "relu": torch.relu,
    "relu_": lambda x: torch.relu_(x + 1),
    "round": torch.round,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "sin": torch.sin,
    "tanh": torch.tanh,
    "trunc": torch.trunc,
    "square": torch.square,
    "sqrt": lambda x: torch.sqrt(x.abs()),
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 1),
    "log": lambda x: torch.log(x.abs() + 1),
    "log1p": lambda x: torch.log1p(x.abs()),
    "log2": lambda x: torch.log2(x.abs() + 1),
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 1.3),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.7),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
    "softplus-beta": lambda x: F.softplus(x, 2.0),
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 0.1, 2.0),
    "glu": lambda x: F.glu(x, 1),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp-min": lambda x: x.clamp(min=0.1),
    "clamp-max": lambda x: x.clamp_max(0.1),
    "pow": lambda x: x**3,
    "rsub": lambda x: 2.5 - x,
    "add-scalar": lambda x: x + 2,
    "div-scalar": lambda x: x / 3,
    "div-floor": lambda x: torch.floor_divide(x, 0.3),
    "div-trunc": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "remainder": lambda x: x % 0.7,
    "fmod": lambda x: torch.fmod(x, 0.7),
    "where": lambda x: torch.where(x > 0, x, -2 * x),
    "compare": lambda x: (x > 0, x >= 0.1, x < 0, x <= 0.1, x == x, x != 0),
    "logic": lambda x: ((x > 0) & (x < 1), (x > 0) | (x < -1), ~(x > 0), (x > 0) ^ (x > 1)),
    "masked_fill": lambda x: x.masked_fill(x > 0, 5.0),
    "isnan": torch.isnan,
    "half": lambda x: x.half().float(),
    "to-int": lambda x: (x * 3).to(torch.int32),
    "dropout": lambda x: F.dropout(x, training=False),
    "sum": lambda x: x.sum(),
    "sum-axis": lambda x: x.sum(1),
    "mean": lambda x: x.mean((0, 1), keepdim=True),
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin(0),
    "max": lambda x: x.max(),
    "prod": lambda x: x.prod(1),
    "max-axis": lambda x: tuple(torch.max(x, 1)),
    "min-axis": lambda x: tuple(torch.min(x, 0, keepdim=True)),
    "argmax": lambda x: (x.argmax(1), x.argmax()),
    "argmin": lambda x: x.argmin(0, keepdim=True),
    "any": lambda x: ((x > 1).any(), (x > 1).any(1)),
    "all": lambda x: (x > -1).all(0),
    "std": lambda x: x.std(1),
    "var": lambda x: x.var(0, unbiased=False),
    "var_mean": lambda x: torch.var_mean(x, 1),
    "norm": lambda x: (x.norm(), x.norm(1, 1), torch.linalg.vector_norm(x, float("inf"), 0)),
    "normalize": lambda x: F.normalize(x, dim=1),
    "logsumexp": lambda x: x.logsumexp(1),
    "cumsum": lambda x: x.cumsum(1),
    "softmax": lambda x: x.softmax(0),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "softmin": lambda x: F.softmin(x, 1),
    "view": lambda x: x.view(2, -1),
    "reshape": lambda x: x.reshape(12),
    "flatten": lambda x: x.flatten(),
    "t": lambda x: x.t(),
    "permute": lambda x: x[None].permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, 1),
    "unsqueeze": lambda x: x.unsqueeze(-1),
    "squeeze": lambda x: x[:, None].squeeze(1),
    "expand": lambda x: x[None].expand(5, -1, 4),
    "unflatten": lambda x: x.unflatten(1, (2, -1)),
    "repeat": lambda x: x.repeat(2, 1, 3),
    "select": lambda x: x[:, -1],
    "slice": lambda x: x[1:, ::2],
    "slice-negative": lambda x: x[-2:, :-1],
    "narrow": lambda x: x.narrow(1, 1, 2),
    "split": lambda x: x.split(3, 1),
    "split-sizes": lambda x: x.split([1, 3], 1),
    "chunk": lambda x: x.chunk(3, 1),
    "unbind": lambda x: x.unbind(0),
    "cat": lambda x: torch.cat([x, 2 * x, x], 1),
    "stack": lambda x: torch.stack([x, -x], 1),
    "flip": lambda x: x.flip(0, 1),
    "roll": lambda x: x.roll((1, -1), (0, 1)),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "pad-cut": lambda x: F.pad(x, (-1, 2)),
    "tril": lambda x: x.tril(-1),
    "triu": lambda x: x.triu(1),
    "index_select": lambda x: x.index_select(1, torch.tensor([3, 0, 0])),
    "index": lambda x: x[torch.tensor([2, -1]), torch.tensor([0, -3])],
    "index-one": lambda x: x[:, torch.tensor([[0, 1], [3, 2]])],
    "full": lambda x: x + torch.full((4,), 2.0),
    "arange": lambda x: x * torch.arange(4),
    "zeros_like": lambda x: x + torch.zeros_like(x) + torch.ones(3, 1),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x, x),
    "outer": lambda x: torch.outer(x[0], x[1]),
    "expm1": torch.expm1,
    "written-in-place": _written,
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "lerp": lambda x: torch.lerp(x, x + 1, 0.3),
}


@pytest.mark.parametrize("name", ONE)
def test_functions_of_a_matrix(name: str) -> None:
    compare(Wrapped(ONE[name]), [real(*X)])


W = (pruned(5, 6), pruned(5))
CASES: dict[str, tuple[Function, Sequence[Any], Sequence[Any]]] = {
    "add": (torch.add, [real(3, 4), real(4)], []),
    "sub-alpha": (lambda x, y: torch.sub(x, y, alpha=2), [real(3, 4), real(3, 1)], []),
    "mul-int-float": (lambda x, y: x * y, [whole(3, 4), real(4)], []),
    "div-ints": (lambda x, y: (x / y, x // y, x % y, torch.div(x, y, rounding_mode="trunc")),
                 [whole(3, 4), whole(4, low=1)], []),
    "compare-mixed": (lambda x, y: (x > y, x == y, x > 0.5, y == 0), [whole(3, 4), real(4)], []),
    "maximum": (lambda x, y: (torch.maximum(x, y), torch.minimum(x, y)), [real(3, 4), real(4)], []),
    "clamp-tensor": (torch.clamp, [real(3, 4), real(4), real(4) + 1], []),
    "linear": (F.linear, [real(2, 3, 6)], W),
    "linear-no-bias": (F.linear, [real(6)], W[:1]),
    "linear-of-inputs": (F.linear, [real(3, 6), real(5, 6), real(5)], []),
    "addmm": (lambda x, b, w: torch.addmm(b, x, w.t()), [real(3, 6)], [W[1], W[0]]),
    "addmm-scaled": (lambda x, b, w: torch.addmm(b, x, w.t(), beta=0.5, alpha=2), [real(3, 6)], [W[1], W[0]]),
    "mm": (lambda x, w: (x @ w.t(), w @ x.t()), [real(3, 6)], W[:1]),
    "mv": (lambda x, w: torch.mv(w, x), [real(6)], W[:1]),
    "bmm": (torch.bmm, [real(2, 3, 4), real(2, 4, 5)], []),
    "matmul": (torch.matmul, [real(2, 1, 3, 4), real(3, 4, 5)], []),
    "baddbmm": (torch.baddbmm, [real(2, 3, 5), real(2, 3, 4), real(2, 4, 5)], []),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1), [real(2, 4, 9)], [pruned(6, 4, 3), pruned(6)]),
    "conv-transpose1d": (lambda x, w, b: F.conv_transpose1d(x, w, b, 3, 1, 2, 1, 2),
                         [real(2, 4, 5)], [pruned(4, 3, 4), pruned(3)]),
    "conv-transpose2d-unbatched": (lambda x, w: F.conv_transpose2d(x, w, stride=2), [real(4, 3, 5)],
                                   [pruned(4, 3, 3, 2)]),
    "conv2d-unbatched": (F.conv2d, [real(4, 6, 7)], [pruned(6, 4, 3, 2)]),
    "conv2d-same": (lambda x, w: F.conv2d(x, w, padding="same", dilation=2), [real(1, 4, 6, 7)],
                    [pruned(6, 4, 3, 2)]),
    "conv2d-depthwise": (lambda x, w: F.conv2d(x, w, padding=1, groups=4), [real(1, 4, 6, 7)],
                         [pruned(8, 1, 3, 3)]),
    "conv3d": (F.conv3d, [real(1, 2, 4, 4, 5)], [pruned(3, 2, 2, 2, 3)]),
    "batch_norm": (lambda x, m, v, w, b: F.batch_norm(x, m, v.abs() + 1, w, b), [real(2, 3, 4)],
                   [real(3, seed=i) for i in range(4)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (3, 4), w, b), [real(2, 3, 4)], [real(3, 4), real(3, 4)]),
    "layer_norm-plain": (lambda x: F.layer_norm(x, (4,)), [real(2, 3, 4)], []),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), [real(2, 4, 5)], [real(4), real(4)]),
    "instance_norm": (F.instance_norm, [real(2, 4, 5)], []),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w), [real(2, 3, 4)], [real(4)]),
    "prelu": (F.prelu, [real(2, 3, 4)], [real(3)]),
    "embedding": (F.embedding, [whole(2, 3, low=0)], [pruned(5, 6)]),
    "embedding-of-places": (lambda x, w: x + w[torch.arange(3)], [real(2, 3, 6)], [pruned(5, 6)]),
    "adaptive_avg_pool2d": (lambda x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, None))),
                            [real(2, 3, 7, 6)], []),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), [real(2, 3, 6)], []),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (3, 2)), [real(2, 3, 7, 6)], []),
    "nearest": (lambda x: (F.interpolate(x, scale_factor=2), F.interpolate(x, size=(5, 3))),
                [real(2, 3, 4, 5)], []),
    "nearest-1d": (lambda x: F.interpolate(x, scale_factor=1.7), [real(2, 3, 7)], []),
    "nearest-exact": (lambda x: F.interpolate(x, size=(7, 3), mode="nearest-exact"), [real(2, 3, 4, 5)], []),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), [real(2, 8, 3, 4)], []),
    "pad-modes": (lambda x: tuple(F.pad(x, (1, 2, 2, 0), mode=m) for m in ("reflect", "circular")),
                  [real(1, 2, 4, 5)], []),
    "attention": (F.scaled_dot_product_attention, [real(2, 2, 5, 4, seed=i) for i in range(3)], []),
    "attention-causal": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
                         [real(2, 5, 4, seed=i) for i in range(3)], []),
    "attention-mask": (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m > 0),
                       [*(real(2, 5, 4, seed=i) for i in range(3)), torch.eye(5) + whole(5, 5)], []),
    "attention-added": (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
                        [real(2, 5, 4, seed=i) for i in range(3)],
                        [torch.triu(torch.full((5, 5), -torch.inf), 1)]),
    "attention-grouped": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
                          [real(1, 4, 5, 4), real(1, 2, 5, 4), real(1, 2, 5, 4)], []),
    "truth-in": (lambda x, m: torch.where(m, x, 0.0), [real(3, 4), real(3, 4, seed=2) > 0], []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_functions_of_several_tensors(name: str) -> None:
    function, inputs, weights = CASES[name]
    compare(Wrapped(function, weights), inputs)


@settings(max_examples=25)
@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 3))
    kernel, stride, padding, dilation = (
        (data.draw(st.integers(low, 3)), data.draw(st.integers(low, 3))) for low in (1, 1, 0, 1)
    )
    x = real(data.draw(st.integers(1, 2)), 2 * groups, *(data.draw(st.integers(7, 9)) for _ in range(2)))
    w = pruned(groups * data.draw(st.integers(1, 3)), 2, *kernel)
    compare(Wrapped(lambda x, w: F.conv2d(x, w, None, stride, padding, dilation, groups), [w]), [x])


@settings(max_examples=25)
@given(st.data())
def test_pooling(data: st.DataObject) -> None:
    kernel, stride = ((data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))) for _ in range(2))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    ceil, counted = data.draw(st.booleans()), data.draw(st.booleans())
    x = real(1, 2, *(data.draw(st.integers(6, 9)) for _ in range(2)))

    def pools(x: Any) -> Any:
        return (
            F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil),
            F.avg_pool2d(x, kernel, stride, padding, ceil, counted),
        )

    compare(Wrapped(pools), [x])
