"""Reads whole networks, from whatever they are in: a module of the `nn` dialect, a file, a model of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Attribute

from sparsecc.errors import UserError
from sparsecc.passes.nn_widen_floats import NnWidenFloatsPass, narrow_floats


def read_network(
    source: Any,
    *,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, Any] | Sequence[Any] | None = None,
) -> tuple[ModuleOp, str]:
    """The network as a module of the `nn` dialect, and its name. Raises UserError.

    source: the path of a .onnx, .pt2 or .mlir file, such a module (which is not changed), a
    torch.export.ExportedProgram, or a torch.nn.Module, which is exported for `inputs`. batch, dims: extents
    that the network leaves open. Values of f16 and bf16 become f32 (`nn-widen-floats`).
    """
    module, name = _read(source, batch, dims, inputs)
    if narrow_floats(module):
        module = module.clone()
        NnWidenFloatsPass().apply(Context(), module)
    return module, name


def _read(
    source: Any,
    batch: int | None,
    dims: Mapping[str, int] | None,
    inputs: Mapping[str, Any] | Sequence[Any] | None,
) -> tuple[ModuleOp, str]:
    if isinstance(source, ModuleOp):
        return source, "network"
    if isinstance(source, str | os.PathLike):
        path = Path(os.fspath(cast("os.PathLike[str]", source)))
        if path.suffix == ".pt2":
            from sparsecc.importers.torch_export import import_torch

            return import_torch(path, batch=batch, dims=dims), path.stem
        if path.suffix == ".mlir":
            from sparsecc.importers.mlir_text import import_mlir

            return import_mlir(path, batch=batch, dims=dims), path.stem
        from sparsecc.importers.onnx_file import import_onnx

        return import_onnx(path, batch=batch, dims=dims), path.stem
    from sparsecc.importers.torch_export import export_module, import_torch, is_program

    if not is_program(source):
        raise UserError(
            f"found {type(source).__name__} as a network; give a path, a module of the nn dialect, or a "
            "model of torch"
        )
    name = type(source).__name__
    if hasattr(source, "forward"):
        if not isinstance(inputs, Sequence):
            raise UserError(f"{name} needs example inputs to be exported; give inputs=[...], in their order")
        source = export_module(source, inputs)
    return import_torch(source, name=name, batch=batch, dims=dims), name


def check_batch(module: ModuleOp, batch: int, where: Any) -> None:
    """Raises UserError where no input has the batch that was asked for: it is fixed in the model, `where`."""
    main = next(op for op in module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "main")
    shapes = [cast("TensorType[Attribute]", argument.type).get_shape() for argument in main.body.block.args]
    if shapes and not any(shape and shape[0] == batch for shape in shapes):
        found = ", ".join(str(list(shape)) for shape in shapes)
        raise UserError(
            f"{where}: batch {batch} was asked for, but the model fixes its inputs to {found}; leave the "
            "batch out, or give a model whose first axis is open",
            exit_code=2,
        )
