"""Reader of MLIR text: `linalg` on tensors, as torch-mlir and others print it, becomes a module of `nn`.

Named operations, `linalg.generic` by what its body computes, `tensor` operations that move elements, and
constants, in text or in resources. Everything else is refused with its name and its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from xdsl.context import Context
from xdsl.dialect_interfaces.op_asm import OpAsmDialectInterface
from xdsl.dialects import arith, func, math, ml_program, tensor
from xdsl.dialects.builtin import (
    ArrayAttr,
    Builtin,
    DenseResourceAttr,
    FunctionType,
    ModuleOp,
    StringAttr,
    TensorType,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Dialect, Operation, SSAValue
from xdsl.parser import Parser
from xdsl.transforms.dead_code_elimination import dce
from xdsl.utils.exceptions import ParseError, VerifyException

from sparsecc.dialects.nn_base import ELEMENTS, Tensor, tensor_type
from sparsecc.errors import UserError
from sparsecc.importers.constants import Dense
from sparsecc.importers.emitter import Emitter
from sparsecc.importers.files import fault, quote, read_file
from sparsecc.importers.mlir_body import element_of, scalar, scalar_type
from sparsecc.importers.mlir_generic import generic, label
from sparsecc.importers.mlir_named import LINALG
from sparsecc.importers.mlir_operations import HANDLERS
from sparsecc.importers.open_extents import OpenExtents
from sparsecc.importers.values import Builder, Value

_TYPES: dict[str, Any] = {
    "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "f16": np.float16,
    "f32": np.float32, "f64": np.float64,
}  # fmt: skip


def import_mlir(
    path: str | Path, *, batch: int | None = None, dims: Mapping[str, int] | None = None
) -> ModuleOp:
    """The network in a .mlir file: its function main or forward, or the only one with a body.

    batch: the first extent of inputs that leave it open; dims: the others, as "argN[AXIS]". A file in the
    `nn` dialect is taken as it is. Raises UserError, and nothing else, for whatever is wrong.
    """
    path = Path(path)
    try:
        text = read_file(path).decode()
    except UnicodeDecodeError:
        raise fault(
            str(path), "bytes that are no UTF-8", "MLIR as text is needed", "print it as text"
        ) from None
    # xDSL wants several result types of linalg.generic without the parentheses that MLIR prints.
    text = re.sub(r"^(\s*\} -> )\((.*)\)$", r"\1 \2 ", text, flags=re.MULTILINE)
    context = Context(allow_unregistered=True)
    # Of its own, for the resources of this file alone.
    resources = OpAsmDialectInterface()
    builtin = Dialect("builtin", list(Builtin.operations), list(Builtin.attributes), [resources])
    for dialect in (builtin, func.Func, arith.Arith, math.Math, tensor.Tensor, ml_program.MLProgram):
        context.load_dialect(dialect)
    context.load_dialect(LINALG)
    for ours in _ours():
        context.load_dialect(ours)
    try:
        module = Parser(context, text, str(path)).parse_module()
    except ParseError as error:
        line = text.count("\n", 0, error.span.start) + 1
        raise UserError(
            f"{path}, line {line}: {quote(error.msg.strip(), 200)}; print the "
            "module with mlir-opt --mlir-print-op-generic, or lower it to linalg on tensors"
        ) from None
    except (NotImplementedError, RecursionError, ValueError, VerifyException) as error:
        raise UserError(f"{path}: no MLIR that can be read: {quote(str(error), 200)}") from None
    function = _function(module, str(path))
    if any(op.name.startswith("nn.") for op in function.walk()):
        return module
    reader = Reader(str(path), text, resources)
    try:
        return reader.read(function, OpenExtents(batch, dims))
    except (IndexError, KeyError, ValueError, VerifyException) as error:
        # Operands that are not defined and maps that do not fit: mlir-opt says which.
        raise UserError(
            f"{path}, {reader.place(reader.current)}{op_name(reader.current)}: it is not valid "
            f"({quote(str(error), 100)}); check the module with mlir-opt"
        ) from None


def _ours() -> list[Dialect]:
    from sparsecc.dialects.nn import Nn
    from sparsecc.dialects.sparse import Sparse

    return [Nn, Sparse]


def _function(module: ModuleOp, path: str) -> func.FuncOp:
    found = [op for op in module.ops if isinstance(op, func.FuncOp) and not op.is_declaration]
    for name in ("main", "forward"):
        for function in found:
            if function.sym_name.data == name:
                return function
    if len(found) != 1:
        names = ", ".join(f.sym_name.data for f in found) or "none"
        raise UserError(f"{path}: found the functions {names}; needed one called main, forward, or only one")
    return found[0]


class Node(Emitter):
    """One operation of the text, with the errors that name it and its line."""

    def __init__(self, reader: Reader, op: Operation):
        super().__init__(reader.builder, reader.name(op), "")
        self.reader, self.op = reader, op

    def fail(self, problem: str, advice: str = "lower it to linalg on tensors") -> NoReturn:
        self.where = f"{self.reader.source}, {self.reader.place(self.op)}{op_name(self.op)}"
        super().fail(problem, advice)

    def value(self, operand: SSAValue) -> Value:
        """An operand, which must be known or computed."""
        found = self.reader.scope.get(operand)
        if not isinstance(found, Value):
            self.fail("it reads a tensor that nothing has written")
        return found

    def init(self, operand: SSAValue) -> Value | None:
        """What an output begins with; None where it does not matter."""
        return self.reader.scope.get(operand)

    def extents(self, static: Sequence[int], dynamic: Sequence[SSAValue]) -> list[int]:
        """A list of numbers, those that the text leaves open taken from operands."""
        given = iter(dynamic)
        return [self.number(next(given)) if s < 0 else s for s in static]

    def number(self, operand: SSAValue) -> int:
        found = self.value(operand)
        if found.constant is None:
            self.fail("it needs a number that is only known at run time", "give static shapes")
        return int(found.constant.array())


class Reader:
    """A function while it is read."""

    def __init__(self, source: str, text: str, resources: OpAsmDialectInterface):
        self.source, self.text, self.resources = source, text, resources
        self.scope: dict[SSAValue, Any] = {}
        self.builder = Builder(func.FuncOp("main", FunctionType.from_lists([], [])).body.block)
        self.numbers: dict[Operation, int] = {}
        self.current: Operation = ModuleOp([])

    def read(self, function: func.FuncOp, extents: OpenExtents) -> ModuleOp:
        types: list[Tensor] = []
        names = [f"arg{i}" for i in range(len(function.body.block.args))]
        self.numbers = {op: i for i, op in enumerate(function.walk())}
        made = func.FuncOp("main", FunctionType.from_lists([], []))
        self.builder = Builder(made.body.block)
        for name, argument in zip(names, function.body.block.args, strict=True):
            types.append(self._type(name, argument.type, extents))
            ours = made.body.block.insert_arg(types[-1], len(types) - 1)
            ours.name_hint = name
            self.scope[argument] = Value(types[-1].get_shape(), str(types[-1].element_type), ssa=ours)
        extents.check_used(self.source)
        outputs: list[SSAValue] = []
        for op in function.body.block.ops:
            self.current = op
            if isinstance(op, func.ReturnOp):
                node = Node(self, op)
                outputs = [self.builder.ssa(node.value(v), "") for v in op.operands]
                continue
            for result, value in zip(op.results, self._results(op), strict=True):
                self.scope[result] = value
        made.body.block.add_op(func.ReturnOp(*outputs))
        made.properties["function_type"] = FunctionType.from_lists(types, [o.type for o in outputs])
        made.attributes["input_names"] = ArrayAttr([StringAttr(n) for n in names])
        made.attributes["output_names"] = ArrayAttr([StringAttr(f"result{i}") for i in range(len(outputs))])
        module = ModuleOp([made])
        # Comparisons that became a ReLU, inits that were overwritten.
        dce(module)
        return module

    def _results(self, op: Operation) -> Sequence[Value | None]:
        node = Node(self, op)
        if isinstance(op, linalg.GenericOp):
            return generic(node, op, self.scope)
        if isinstance(op, arith.ConstantOp) and isinstance(op.value, DenseResourceAttr):
            return [self._resource(node, op.value)]
        if (handler := HANDLERS.get(op_name(op))) is not None:
            return [handler(node, op)]
        if all(v in self.scope and self.scope[v] is not None for v in op.operands):
            found = scalar(node, op, self.scope) if len(op.results) == 1 else None
            if found is not None:
                return [found]
        if op_name(op) == "cf.assert":
            return []
        node.fail("this operation is not known")

    def _resource(self, node: Node, attribute: DenseResourceAttr) -> Value:
        """A constant at the end of the file, in hexadecimal: four bytes of alignment, then elements."""
        key = attribute.resource_handle.data
        held = self.resources.lookup(key)
        kind = cast(Any, attribute.type)
        element = element_of(scalar_type(kind))
        if held is None or element not in _TYPES:
            node.fail(
                f"the resource {quote(key)} of {element} is not in the file", "print it with its resources"
            )
        data = bytes.fromhex(held.removeprefix("0x"))[4:]
        shape, dtype = tuple(map(int, kind.get_shape())), np.dtype(_TYPES[element])
        if len(data) != dtype.itemsize * int(np.prod(shape)):
            node.fail(f"the resource {quote(key)} has {len(data)} bytes, which do not make {kind}")
        return Value.of(Dense(np.frombuffer(data, dtype).reshape(shape), element))

    def _type(self, name: str, kind: Attribute, extents: OpenExtents) -> Tensor:
        if not isinstance(kind, TensorType) or _element(kind) not in ELEMENTS:
            raise UserError(f"{self.source}, {name}: found {kind}; inputs are tensors of numbers")
        shape: list[int] = []
        for axis, extent in enumerate(cast(Any, kind).get_shape()):
            shape.append(
                extents.of(f"{self.source}, {name}", axis, f"{name}[{axis}]") if extent < 0 else extent
            )
        return tensor_type(shape, ELEMENTS[_element(kind)])

    def name(self, op: Operation) -> str:
        return label(op, self.numbers.get(op, 0))

    def place(self, op: Operation) -> str:
        """The line of an operation: the text has as many of its kind before it as the function."""
        name = op_name(op)
        before = sum(1 for o, i in self.numbers.items() if op_name(o) == name and i < self.numbers[op])
        found = list(re.finditer(rf'(?<![\w.])"?{re.escape(name)}(?![\w.])', self.text))
        if len(found) <= before:
            return ""
        return f"line {self.text.count(chr(10), 0, found[before].start()) + 1}, "


def _element(kind: Any) -> str:
    """The element type of a tensor."""
    return element_of(scalar_type(kind))


def op_name(op: Operation) -> str:
    """What the text calls an operation, registered or not."""
    name = op.attributes.get("op_name__")
    return name.data if isinstance(name, StringAttr) else op.name
