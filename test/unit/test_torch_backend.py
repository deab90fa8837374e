"""torch.compile with the backend sparsecc, against torch itself."""

# Classes of torch have no types for the checker.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Generator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest

from sparsecc.errors import UserError

torch: Any = pytest.importorskip("torch", reason="torch is not installed (extra torch)")
nn: Any = torch.nn

from sparsecc import torch_backend  # noqa: E402
from sparsecc.torch_products import Product  # noqa: E402

# torch's own, on the way from dynamo to a backend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]


@pytest.fixture(autouse=True)
def fresh() -> Generator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product wins its race, so that its values are the ones that are compared."""
    monkeypatch.setattr(Product, "race", staticmethod(lambda ours, theirs: (1.0, 2.0)))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]


def pruned(model: Any, density: float = 0.1) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
            if p.dim() > 1:
                p *= torch.rand_like(p) < density
    return model.eval()


def compiled(model: Any, **options: Any) -> Any:
    return torch.compile(model, backend=torch_backend.backend, options=options)


def agree(model: Any, ours: Any, *inputs: Any) -> None:
    with torch.no_grad():
        np.testing.assert_allclose(ours(*inputs).numpy(), model(*inputs).numpy(), rtol=1e-4, atol=1e-4)


def mlp() -> Any:
    return pruned(nn.Sequential(nn.Linear(40, 56), nn.ReLU(), nn.Linear(56, 24, bias=False)))


@pytest.mark.usefixtures("always_faster")
def test_linear_layers_for_any_number_of_positions() -> None:
    model = mlp()
    ours = compiled(model, target="cpu")
    for n in (33, 1, 16, 5, 64):
        agree(model, ours, torch.randn(n, 40))
    agree(model, ours, torch.randn(2, 3, 40))
    found = torch_backend.report(model)
    assert [d.layer for d in found] == ["0", "2"]
    assert all(d.replaced and d.speedup == 2 for d in found)


@pytest.mark.usefixtures("always_faster")
def test_convolutions_and_products() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Conv2d(6, 20, 3, stride=2, padding=1, dilation=2)
            self.point = nn.Conv2d(20, 30, 1)
            self.depth = nn.Conv2d(30, 30, 3, groups=30)
            self.w = nn.Parameter(torch.zeros(30, 8))
            self.b = nn.Parameter(torch.zeros(8))

        def forward(self, x: Any, scale: int, keep: Any) -> Any:
            y = self.depth(self.point(torch.relu(self.wide(x))))
            y = torch.addmm(self.b, y.flatten(2).transpose(1, 2)[0], self.w) * scale
            return torch.where(keep, y @ self.w.t(), 0.0)

    model = pruned(Mixed())
    agree(model, compiled(model), torch.randn(2, 6, 15, 13), 3, torch.arange(30) > 4)
    found = {d.layer: d for d in torch_backend.report(model)}
    assert found["wide"].replaced
    assert found["point"].replaced
    assert found["w"].replaced
    assert "depth" not in found


def test_what_is_faster_is_measured() -> None:
    model = mlp()
    agree(model, compiled(model), torch.randn(16, 40))
    for decision in torch_backend.report(model):
        assert decision.speedup is not None
        assert decision.replaced == (decision.speedup > 1 / 0.95)
        assert "us dense" in decision.reason
        assert f"{decision.speedup:.2f}x at 16 positions" in str(decision)


@pytest.mark.usefixtures("always_faster")
def test_pruned_by_masks_and_trained_on() -> None:
    model = mlp()
    prune: Any = import_module("torch.nn.utils.prune")
    prune.random_unstructured(model[0], "weight", 0.5)
    ours, x = compiled(model), torch.randn(4, 40)
    agree(model, ours, x)
    assert len(torch_backend.report(model)) == 2
    with torch.no_grad():
        model[0].weight_orig.mul_(3.0)
        model[2].weight.add_(1.0)
    agree(model, ours, x)  # not the old weights
    ours(x).sum().backward()
    wanted = model[2].weight.grad.clone()
    model.zero_grad()
    model(x).sum().backward()
    assert torch.allclose(model[2].weight.grad, wanted, rtol=1e-4, atol=1e-4)


def test_what_is_left_to_torch() -> None:
    model = pruned(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8).double()), density=0.9)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Any) -> Any:
            return self.inner[1](self.inner[0](x).double())

    agree(Twice(), compiled(Twice().eval()), torch.randn(3, 8))
    reasons = [d.reason for d in torch_backend.report(model)]
    assert any("of its weight are zeros" in r for r in reasons)
    assert "its weight is float64 on cpu" in reasons


def test_on_the_simulator() -> None:
    model = pruned(nn.Sequential(nn.Linear(16, 8), nn.ReLU()))
    ours = compiled(model, target="scalesim-ws16", effort=0)
    agree(model, ours, torch.randn(4, 16))


def test_options_and_entry_point() -> None:
    with pytest.raises(UserError, match="no option tile; it has effort, target"):
        torch_backend.backend(None, [], options={"tile": 4})
    with pytest.raises(UserError, match="target"):
        torch_backend.backend(None, [], options={"target": "nosuch"})
    (found,) = entry_points(group="torch_dynamo_backends", name="sparsecc")
    assert found.load() is torch_backend.backend
