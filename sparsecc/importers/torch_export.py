"""Reader of programs of torch: a torch.export.ExportedProgram, or a .pt2 file, becomes a module of `nn`.

A program with operators that have no handler here is decomposed to torch's core operators first, those which
the `nn` dialect has (linear, convolutions, layer norm, GELU, attention, recurrent layers) staying whole.
Masks of torch.nn.utils.prune and all else that is constant are folded; parameters in a sparse layout stay
sparse.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr

from sparsecc.dialects.nn_base import ELEMENTS, Tensor, tensor_type
from sparsecc.errors import UserError
from sparsecc.importers import (
    torch_constants,
    torch_indexing,
    torch_layout,
    torch_math,
    torch_products,
    torch_recurrent,
    torch_reductions,
)
from sparsecc.importers.files import check_file, fault, quote
from sparsecc.importers.open_extents import OpenExtents
from sparsecc.importers.torch_graph import Graph, Handler, is_check
from sparsecc.importers.torch_tensor import constant_of, element_name, torch_library
from sparsecc.importers.values import Builder, Value
from sparsecc.nn.shapes import MAX_ELEMENTS

HANDLERS: dict[str, Handler] = {
    **torch_constants.HANDLERS,
    **torch_indexing.HANDLERS,
    **torch_layout.HANDLERS,
    **torch_math.HANDLERS,
    **torch_products.HANDLERS,
    **torch_recurrent.HANDLERS,
    **torch_reductions.HANDLERS,
}

# Operators that torch would take apart, and that are better kept.
_WHOLE = {
    "_adaptive_avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "addmm", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "baddbmm", "celu", "conv1d", "conv2d", "conv3d", "elu", "gelu", "group_norm", "gru",
    "hardsigmoid", "hardswish", "instance_norm", "layer_norm", "leaky_relu", "linear", "log_softmax", "lstm",
    "matmul", "max_pool1d", "max_pool2d", "max_pool3d", "mish", "pad", "pixel_shuffle", "prelu",
    "rms_norm", "rnn_relu", "rnn_tanh", "scaled_dot_product_attention", "silu", "softmax", "softplus", "std",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
}  # fmt: skip


@contextmanager
def _silence() -> Generator[None]:
    """Without what torch says on the way to an error, which is told in one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def is_program(source: object) -> bool:
    """Whether this is a torch.export.ExportedProgram or a torch.nn.Module, without importing torch."""
    kinds = {(c.__module__.split(".")[0], c.__name__) for c in type(source).__mro__}
    return bool(kinds & {("torch", "ExportedProgram"), ("torch", "Module")})


def export_module(model: Any, inputs: Sequence[Any]) -> Any:
    """The ExportedProgram of a torch.nn.Module for these inputs: tensors, or arrays. Raises UserError."""
    torch = torch_library()
    name = type(model).__name__
    if model.training:
        raise UserError(f"{name} is in training mode; call eval() on it before compiling it")
    given = tuple(x if isinstance(x, torch.Tensor) else torch.from_numpy(x) for x in inputs)
    try:
        # Pruning assigns the masked weight in each call, of which the exporter warns.
        with _silence(), torch.no_grad():
            return torch.export.export(model, given)
    except Exception as error:  # the exporter raises all kinds
        raise UserError(
            f"{name} cannot be exported: {_first_line(error)}; try torch.export.export on it"
        ) from None


def read_program(path: str | Path) -> Any:
    """The ExportedProgram in a .pt2 file. Raises UserError."""
    torch = torch_library()
    path = Path(path)
    check_file(path)
    try:
        with _silence():
            return torch.export.load(path)
    except Exception as error:  # damaged archives end in all kinds of errors
        raise fault(
            str(path), f"no exported program ({_first_line(error)})", "a .pt2 file is needed",
            "write it with torch.export.save",
        ) from None  # fmt: skip


def import_torch(
    source: Any, *, name: str = "network", batch: int | None = None, dims: Mapping[str, int] | None = None
) -> ModuleOp:
    """The network of an ExportedProgram, or of a .pt2 file, as a module whose function is `main`.

    batch: the first extent of inputs that leave it open. dims: extents of the others, by the symbol that
    torch gave them, or as "INPUT[AXIS]". name: of the program in messages. Raises UserError.
    """
    if isinstance(source, str | Path):
        name, source = str(source), read_program(source)
    tensors = {**source.state_dict, **source.constants}
    _check_signature(source, name)
    # torch aborts the process when it decomposes a program with tensors in sparse layouts.
    program = source
    if not _all_known(source) and not _any_sparse(tensors.values()):
        program = _decomposed(source, name)
        # Batch norms in training show only now.
        _check_signature(program, name)
    tensors |= {**program.state_dict, **program.constants}
    return _import(program, tensors, name, OpenExtents(batch, dims))


def _import(program: Any, tensors: Mapping[str, Any], name: str, extents: OpenExtents) -> ModuleOp:
    graph: Any = program.graph_module.graph
    placeholders = {n.name: n for n in graph.nodes if n.op == "placeholder"}
    function = func.FuncOp("main", FunctionType.from_lists([], []))
    block = function.body.block
    importer = Graph(name, Builder(block), HANDLERS)
    types: list[Tensor] = []
    names: list[str] = []
    for spec in program.graph_signature.input_specs:
        node, kind = placeholders[spec.arg.name], spec.kind.name
        if kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            where = f"{name}, {quote(spec.target, 200)}"
            # What nothing uses, such as the counters of batch norms, may be of any type.
            if node.users:
                importer.scope[node] = Value.of(constant_of(tensors[spec.target], where))
        elif kind != "USER_INPUT":
            raise UserError(f"{name}, input {quote(node.name, 200)}: a {kind.lower()} is not supported")
        elif not hasattr(node.meta.get("val"), "dtype"):
            # A number or None, fixed when it was exported.
            importer.scope[node] = getattr(spec.arg, "value", None)
        else:
            where = f"{name}, input {quote(node.name, 200)}"
            shape = _shape(node, where, extents)
            element = element_name(node.meta["val"].dtype, where)
            types.append(tensor_type(shape, ELEMENTS[element]))
            names.append(node.name)
            argument = block.insert_arg(types[-1], len(block.args))
            argument.name_hint = node.name
            importer.scope[node] = Value(shape, element, ssa=argument)
    extents.check_used(name)
    results: list[Any] = []
    outputs: list[str] = []
    found = importer.run(graph)
    for i, (value, spec) in enumerate(zip(found, program.graph_signature.output_specs, strict=True)):
        if not isinstance(value, Value):
            raise UserError(f"{name}, output {i}: it is no tensor; return tensors only")
        results.append(importer.builder.ssa(value, ""))
        outputs.append(spec.arg.name)
    block.add_op(func.ReturnOp(*results))
    function.properties["function_type"] = FunctionType.from_lists(types, [r.type for r in results])
    function.attributes["input_names"] = ArrayAttr([StringAttr(n) for n in names])
    function.attributes["output_names"] = ArrayAttr([StringAttr(n) for n in outputs])
    return ModuleOp([function])


def _check_signature(program: Any, name: str) -> None:
    changed = [
        *program.graph_signature.buffers_to_mutate.values(),
        *program.graph_signature.user_inputs_to_mutate.values(),
    ]
    if changed:
        raise UserError(
            f"{name}: the program changes {', '.join(quote(str(c)) for c in changed[:4])} when it runs; call "
            "eval() on the model and export it again"
        )


def _all_known(program: Any) -> bool:
    """Whether nothing has to be taken apart. Operators that work in place have other names."""
    schemas = (getattr(n.target, "_schema", None) for n in program.graph.nodes if n.op == "call_function")
    names = (schema.name for schema in schemas if schema is not None)
    return all(name.removeprefix("aten::") in HANDLERS or is_check(name) for name in names)


def _any_sparse(tensors: Iterable[Any]) -> bool:
    """Whether there is a tensor in a sparse layout."""
    return any(str(getattr(t, "layout", "torch.strided")) != "torch.strided" for t in tensors)


def _decomposed(program: Any, name: str) -> Any:
    torch = torch_library()
    table = torch.export.default_decompositions()
    for operator in list(table.keys()):
        # The other form of a convolution has its padding as a word.
        if operator._schema.name.removeprefix("aten::") in _WHOLE:
            table.pop(operator)
    try:
        with _silence():
            return program.run_decompositions(table)
    except Exception as error:  # the library raises all kinds
        raise UserError(f"{name}: torch cannot decompose it: {_first_line(error)}") from None


def _shape(node: Any, where: str, extents: OpenExtents) -> tuple[int, ...]:
    """The extents of an input; open ones by their symbol, which has one value everywhere."""
    shape: list[int] = []
    for axis, extent in enumerate(node.meta["val"].shape):
        if isinstance(extent, int):
            shape.append(extent)
            continue
        shape.append(extents.of(where, axis, f"{node.name}[{axis}]", str(extent)))
    if min(shape, default=0) < 0 or math.prod(shape) > MAX_ELEMENTS:
        raise fault(where, f"the shape {shape}", f"0 to {MAX_ELEMENTS} elements are supported", "change it")
    return tuple(shape)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return quote(lines[0], 200) if lines else type(error).__name__
