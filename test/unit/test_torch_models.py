# Classes of torch have no types for the checker.
# pyright: reportUnknownMemberType=false
"""Whole models of torch: read, compiled and run, and what is refused."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import func

from sparsecc.dialects.sparse import ConstantOp
from sparsecc.errors import UserError
from sparsecc.importers.torch_export import export_module, import_torch
from sparsecc.interpreters.sparse import run_module
from sparsecc.network_compiler import compile_network

torch: Any = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
nn: Any = torch.nn


class Conv(nn.Module):
    """A residual network with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm(self.first(x)))
        y = nn.functional.max_pool2d(y + self.depth(y), 2)
        return self.head(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1))


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(10, 4)
        self.rnn = nn.RNN(4, 3, nonlinearity="relu", bias=False)

    def forward(self, x: Any) -> Any:
        y, (h, c) = self.lstm(x)
        z, g = self.gru(y)
        return y, h, c, z, g, *self.rnn(z)


def seeded(make: Any) -> Any:
    """The same weights in every run, some running statistics, half of each matrix zero."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif value.dim() > 1:
                value *= torch.rand_like(value) > 0.5
            elif value.dtype.is_floating_point:
                value.normal_(0, 0.2)
    return model


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)), (5, 3, 4)),
    "conv": (Conv, (2, 3, 8, 8)),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu"), (2, 5, 8),
    ),
    "lstm": (Lstm, (2, 4, 6)),
}  # fmt: skip


def _results(model: Any, x: Any) -> list[Any]:
    with torch.no_grad():
        found = model(x)
    return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]  # pyright: ignore[reportUnknownVariableType]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, when it takes programs apart
@pytest.mark.parametrize("core", [False, True], ids=["kept-whole", "core-aten"])
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, core: bool) -> None:
    make, shape = MODELS[name]
    model, x = seeded(make), torch.randn(*shape)
    program = export_module(model, [x])
    if core:
        program = program.run_decompositions()
    found = run_module(import_torch(program), x.numpy())
    for ours, theirs in zip(found, _results(model, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_layers_have_the_names_of_their_modules() -> None:
    program = export_module(seeded(Conv), [torch.randn(1, 3, 8, 8)])
    main = next(op for op in import_torch(program).walk() if isinstance(op, func.FuncOp))
    names = {str(op.attributes["name"].data) for op in main.walk() if "name" in op.attributes}  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
    assert {"first", "norm", "depth", "head"} <= names


def _weights(program: Any) -> list[ConstantOp]:
    return [op for op in import_torch(program).walk() if isinstance(op, ConstantOp)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, on every tensor in CSR
@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr"])
def test_weights_in_sparse_layouts(layout: str) -> None:
    class Product(nn.Module):
        def __init__(self, w: Any) -> None:
            super().__init__()
            self.w = nn.Parameter(w, requires_grad=False)

        def forward(self, x: Any) -> Any:
            return (self.w @ x.t()).t()

    torch.manual_seed(1)
    w, x = torch.randn(8, 6) * (torch.rand(8, 6) > 0.6), torch.randn(3, 6)
    blocks = {"blocksize": (2, 2)} if layout == "bsr" else {}
    held = getattr(w, f"to_sparse_{layout}")(**blocks)
    program = export_module(Product(held).eval(), [x])
    (weight,) = _weights(program)
    assert weight.weight.nnz.data == int((w != 0).sum())
    (found,) = run_module(import_torch(program), x.numpy())
    np.testing.assert_allclose(found, (x @ w.t()).numpy(), rtol=1e-5, atol=1e-6)


def test_masks_of_pruning_are_folded() -> None:
    prune: Any = import_module("torch.nn.utils.prune")
    model, x = seeded(MODELS["mlp"][0]), torch.randn(2, 3, 4)
    prune.random_unstructured(model[1], "weight", 0.8)
    program = export_module(model, [x])
    mask = model[1].weight_mask * (model[1].weight_orig != 0)
    first = _weights(program)[0]
    assert (first.weight.shape, first.weight.nnz.data) == ((16, 12), int(mask.sum()))
    np.testing.assert_allclose(
        run_module(import_torch(program), x.numpy())[0], _results(model, x)[0], atol=1e-6
    )


def test_open_extents_are_given(tmp_path: Path) -> None:
    model = seeded(MODELS["mlp"][0])
    b = torch.export.Dim("b", min=1, max=64)
    program = torch.export.export(model, (torch.randn(5, 3, 4),), dynamic_shapes=({0: b},))
    torch.export.save(program, tmp_path / "model.pt2")
    x = torch.randn(7, 3, 4)
    (found,) = run_module(import_torch(tmp_path / "model.pt2", batch=7), x.numpy())
    np.testing.assert_allclose(found, _results(model, x)[0], atol=1e-6)
    with pytest.raises(
        UserError, match=r"input 'input': found the dynamic dimension .* give its size: --batch N"
    ):
        import_torch(tmp_path / "model.pt2")


@pytest.mark.parametrize("name", ["mlp", "conv", "transformer"])
def test_models_on_a_tensor_unit(name: str) -> None:
    make, shape = MODELS[name]
    model, x = seeded(make), torch.randn(*shape)
    network = compile_network(model, target="scalesim-ws16", inputs=[x], effort=0)
    found = network(x.numpy())
    np.testing.assert_allclose(found, _results(model, x)[0], rtol=1e-4, atol=1e-4)
    assert network.report.speedup > 0


def test_what_is_refused(tmp_path: Path) -> None:
    class Unknown(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.qr(x + 1)[0]

    x = torch.randn(3, 3)
    with pytest.raises(
        UserError, match=r"\(aten.linalg_qr\), .*test_torch_models.py:\d+ in forward: this operator is"
    ):
        import_torch(export_module(Unknown().eval(), [x]))
    with pytest.raises(UserError, match=r"Sequential is in training mode; call eval\(\)"):
        compile_network(copy.deepcopy(seeded(MODELS["mlp"][0])).train(), inputs=[x])
    with pytest.raises(UserError, match="needs example inputs"):
        compile_network(seeded(MODELS["mlp"][0]))
    with pytest.raises(UserError, match="Sequential cannot be exported"):
        compile_network(seeded(MODELS["mlp"][0]), inputs=[x])
    damaged = tmp_path / "model.pt2"
    damaged.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(UserError, match=r"model.pt2: found no exported program"):
        import_torch(damaged)
    with pytest.raises(UserError, match="no such file"):
        import_torch(tmp_path / "other.pt2")
    normed = nn.BatchNorm1d(3)
    program = torch.export.export(normed, (x,))
    with pytest.raises(UserError, match=r"the program changes .*running_mean.* call eval\(\)"):
        import_torch(program)
