"""Reader of ONNX models: a file becomes a module of the `nn` dialect.

Operator sets 7 to the current one; dense weights, external data, sparse initializers (linear and coordinate
indices), QDQ and QLinear operators of bytes. What can be computed at import is folded; weights stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr

from sparsecc.dialects.nn_base import ELEMENTS, tensor_type
from sparsecc.errors import UserError
from sparsecc.importers import (
    onnx_contrib,
    onnx_layout,
    onnx_math,
    onnx_products,
    onnx_quantized,
    onnx_recurrent,
    onnx_resize,
    onnx_shapes,
)
from sparsecc.importers.files import fault, quote
from sparsecc.importers.onnx_graph import Graph, Handler
from sparsecc.importers.onnx_proto import TensorReader, element_name, onnx_library, read_model
from sparsecc.importers.open_extents import OpenExtents
from sparsecc.importers.values import Builder, Value
from sparsecc.nn.shapes import MAX_ELEMENTS

if TYPE_CHECKING:
    import onnx

# From this one on operators broadcast as numpy does.
OLDEST_OPSET = 7

HANDLERS: dict[str, Handler] = {
    **onnx_contrib.HANDLERS,
    **onnx_layout.HANDLERS,
    **onnx_math.HANDLERS,
    **onnx_products.HANDLERS,
    **onnx_quantized.HANDLERS,
    **onnx_recurrent.HANDLERS,
    **onnx_resize.HANDLERS,
    **onnx_shapes.HANDLERS,
}


def import_onnx(
    path: str | Path, *, batch: int | None = None, dims: Mapping[str, int] | None = None
) -> ModuleOp:
    """The network in an ONNX file as a module whose function `main` takes its inputs and returns its outputs.

    batch: the first extent of inputs that leave it open.
    dims: extents of the other open dimensions, by their name in the model, or as "INPUT[AXIS]".
    The function's attributes `input_names` and `output_names` hold the names of the model; every operation
    has the name of its node as attribute `name` and as location.
    Raises UserError, and nothing else, for whatever is wrong with the file or not supported.
    """
    path = Path(path)
    try:
        return import_model(read_model(path), str(path), path.parent, batch=batch, dims=dims)
    except MemoryError:
        raise UserError(
            f"{path}: does not fit into memory; use a smaller model or a larger machine"
        ) from None


def import_model(
    model: onnx.ModelProto,
    source: str,
    folder: Path,
    *,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
) -> ModuleOp:
    """As `import_onnx`, for a model in memory; `source` is its name in messages."""
    opsets = _opsets(model, source)
    graph = model.graph
    constants = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    extents = OpenExtents(batch, dims)
    types = [_input_type(i, source, extents) for i in inputs]
    extents.check_used(source)
    names = [i.name for i in inputs]
    if len(set(names)) != len(names):
        raise UserError(f"{source}: two inputs have the same name; export the model again")

    function = func.FuncOp("main", FunctionType.from_lists(types, []))
    block = function.body.block
    functions = {(f.domain, f.name): f for f in model.functions}
    importer = Graph(source, Builder(block), TensorReader(folder), opsets, functions, HANDLERS)
    importer.add_initializers(graph)
    for name, argument, kind in zip(names, block.args, types, strict=True):
        argument.name_hint = _hint(name)
        importer.scope[name] = Value(kind.get_shape(), str(kind.element_type), ssa=argument)
    if not graph.output:
        raise UserError(f"{source}: the graph has no output; export the model again")
    outputs = [o.name for o in graph.output]
    results = [importer.builder.ssa(v, "") for v in importer.run(graph.node, outputs)]
    block.add_op(func.ReturnOp(*results))
    function.properties["function_type"] = FunctionType.from_lists(types, [r.type for r in results])
    function.attributes["input_names"] = ArrayAttr([StringAttr(n) for n in names])
    function.attributes["output_names"] = ArrayAttr([StringAttr(n) for n in outputs])
    return ModuleOp([function])


def _opsets(model: onnx.ModelProto, source: str) -> dict[str, int]:
    newest: int = onnx_library().defs.onnx_opset_version()
    opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    version: int = opsets.get("", newest)
    if not OLDEST_OPSET <= version <= newest:
        raise fault(
            source, f"operator set {version}", f"{OLDEST_OPSET} to {newest} are supported",
            "convert the model with onnx.version_converter" if version < OLDEST_OPSET
            else "install a newer onnx, or export the model for an older operator set",
        )  # fmt: skip
    return opsets


def _input_type(value: onnx.ValueInfoProto, source: str, extents: OpenExtents):
    where = f"{source}, input {quote(value.name, 200)}"
    if not value.name or not value.type.HasField("tensor_type"):
        raise fault(
            where, "no tensor", "inputs with a name and a tensor type are needed", "export the model again"
        )
    tensor = value.type.tensor_type
    element = element_name(tensor.elem_type, where)
    if not tensor.HasField("shape"):
        raise fault(
            where, "no shape", "a known number of dimensions is needed", "export the model with shapes"
        )
    shape: list[int] = []
    for axis, dim in enumerate(tensor.shape.dim):
        place = f"{value.name}[{axis}]"
        if dim.HasField("dim_value"):
            extent = dim.dim_value
        else:
            extent = extents.of(where, axis, place, dim.dim_param)
        if extent < 0:
            raise fault(
                where, f"the extent {extent} of axis {axis}", "0 or more is needed", "export the model again"
            )
        shape.append(extent)
    if math.prod(shape) > MAX_ELEMENTS:
        raise fault(
            where, f"the shape {shape}", f"at most {MAX_ELEMENTS} elements are supported", "use a smaller one"
        )
    return tensor_type(shape, ELEMENTS[element])


def _hint(name: str) -> str | None:
    """The name as the IR may show it."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return f"_{kept}" if kept[:1].isdigit() else kept or None
