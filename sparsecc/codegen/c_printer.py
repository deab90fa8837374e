"""Prints functions of upstream func, scf, arith, memref and emitc as C99 that people read.

Values used once, where they are used, become part of the expression; others become named constants, named by
their hints. Nothing here knows the machine dialect but for its constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, cast

from xdsl.dialects import arith, emitc, func, memref, scf
from xdsl.dialects.builtin import Float32Type, FloatAttr, IndexType, IntegerAttr, IntegerType, StringAttr
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.base_printer import BasePrinter

from sparsecc.dialects import tu
from sparsecc.errors import UserError

C_TYPES = {"i8": "int8_t", "i32": "int32_t", "f16": "uint16_t", "bf16": "uint16_t", "f32": "float"}
RESERVED = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int "
    "long register restrict return short signed sizeof static struct switch typedef union unsigned void "
    "volatile while main int8_t int32_t int64_t uint16_t uint32_t uintptr_t INFINITY".split()
)
# Binding strength of C operators, as far as they occur here.
_CONDITIONAL, _COMPARE, _ADD, _MULTIPLY, _UNARY, _PRIMARY = 1, 5, 10, 20, 30, 100
_BINARY: dict[type[Operation], tuple[str, int]] = {
    arith.AddiOp: ("+", _ADD),
    arith.SubiOp: ("-", _ADD),
    arith.MuliOp: ("*", _MULTIPLY),
    arith.DivUIOp: ("/", _MULTIPLY),
    arith.RemUIOp: ("%", _MULTIPLY),
}
_COMPARISONS = {0: "==", 1: "!=", 2: "<", 3: "<=", 4: ">", 5: ">="}
_PER_LINE = 100


class Expression:
    """Text of C, how strongly it binds, and whether it is a 32-bit load to widen before arithmetic."""

    def __init__(self, text: str, strength: int = _PRIMARY, narrow: bool = False):
        self.text, self.strength, self.narrow = text, strength, narrow

    def at(self, strength: int) -> str:
        """The text, in brackets where the surroundings bind more strongly."""
        if self.narrow and strength >= _ADD:
            return f"(int64_t){self.text}"
        return self.text if self.strength >= strength else f"({self.text})"


def array_text(constant: tu.ConstantOp) -> str:
    """A small constant as a C array."""
    name, element = constant.sym_name.data, C_TYPES[str(constant.type.element_type)]
    values = [str(v) for v in cast("list[int]", constant.array.reshape(-1).tolist())]
    lines, line = list[str](), ""
    for value in values:
        if line and len(line) + len(value) + 2 > _PER_LINE:
            lines.append(line)
            line = ""
        line += f"{', ' if line else ''}{value}"
    lines.append(line)
    if len(lines) == 1 and len(line) < _PER_LINE - 40:
        return f"static const {element} {name}[{len(values)}] = {{{line}}};\n"
    body = ",\n    ".join(lines)
    return f"static const {element} {name}[{len(values)}] = {{\n    {body},\n}};\n"


class CPrinter(BasePrinter):
    """Prints functions one after another."""

    def __init__(self, stream: IO[str], taken: Iterable[str] = ()):
        super().__init__(stream)
        self._taken = RESERVED | set(taken)
        self._names: dict[SSAValue, Expression] = {}
        self._used: set[str] = set()

    def function(self, op: func.FuncOp) -> None:
        """One function; private ones become static."""
        self._names, self._used = {}, set(self._taken)
        block = op.body.block
        parameters = ", ".join(_declared(a.type, self._name(a)) for a in block.args)
        static = "static " if op.sym_visibility is not None and op.sym_visibility.data == "private" else ""
        self.print_string(f"{static}int {op.sym_name.data}({parameters}) {{")
        self._block(block)
        self.print_string("\n}\n")

    def _block(self, block: Block) -> None:
        with self.indented(2):
            for op in block.ops:
                self._operation(op)

    def _line(self, text: str) -> None:
        self.print_string("\n" + text)

    def _operation(self, op: Operation) -> None:
        match op:
            case scf.YieldOp() | memref.GetGlobalOp():
                return
            case func.ReturnOp():
                self._line(f"return {self._value(op.arguments[0]).text};" if op.arguments else "return;")
            case scf.ForOp():
                self._for(op)
            case scf.IfOp():
                self._if(op)
            case emitc.EmitC_CallOpaqueOp() if not op.results:
                comment = op.attributes.get("comment")
                tail = f" /* {comment.data} */" if isinstance(comment, StringAttr) else ""
                self._line(f"{self._expression(op).text};{tail}")
            case _ if len(op.results) == 1:
                self._define(op)
            case _:
                raise UserError(f"{op.name} has no form in C; run convert-tu-to-c before the target c")

    def _define(self, op: Operation) -> None:
        """A value: an expression where it is used once in the same block, or cheap; else a named constant."""
        result = op.results[0]
        expression = self._expression(op)
        uses = list(result.uses)
        is_call = isinstance(op, func.CallOp) or (
            isinstance(op, emitc.EmitC_CallOpaqueOp) and not op.callee.data.startswith("AX_")
        )
        if not uses and not is_call:
            return
        in_place = len(uses) == 1 and uses[0].operation.parent is op.parent
        if is_call:  # has an effect: only the very next operation may take it in
            in_place = in_place and op.next_op is uses[0].operation
        if in_place or isinstance(op, arith.ConstantOp):
            self._names[result] = expression
            return
        self._line(f"const {_declared(result.type, self._name(result))} = {expression.text};")

    def _for(self, op: scf.ForOp) -> None:
        i = self._name(op.body.block.args[0])
        low, high, step = (self._value(v) for v in (op.lb, op.ub, op.step))
        advance = f"{i}++" if step.text == "1" else f"{i} += {step.text}"
        self._line(f"for (int64_t {i} = {low.text}; {i} < {high.at(_COMPARE)}; {advance}) {{")
        self._block(op.body.block)
        self._line("}")

    def _if(self, op: scf.IfOp) -> None:
        self._line(f"if ({self._value(op.cond).text}) {{")
        self._block(op.true_region.block)
        if op.false_region.blocks:
            self._line("} else {")
            self._block(op.false_region.block)
        self._line("}")

    def _value(self, value: SSAValue) -> Expression:
        return self._names[value]

    def _expression(self, op: Operation) -> Expression:
        match op:
            case arith.ConstantOp(value=FloatAttr(value=real)):
                return Expression(real.data.hex(), _PRIMARY if real.data >= 0 else _UNARY)
            case arith.ConstantOp():
                number = cast("IntegerAttr[IndexType | IntegerType]", op.value).value.data
                return Expression(str(number), _PRIMARY if number >= 0 else _UNARY)
            case arith.CmpiOp():
                sign = _COMPARISONS[op.predicate.value.data]
                a, b = (self._value(v).at(_COMPARE + 1) for v in (op.lhs, op.rhs))
                return Expression(f"{a} {sign} {b}", _COMPARE)
            case arith.SelectOp():
                return self._select(op)
            case arith.MinSIOp():
                a, b = self._value(op.lhs), self._value(op.rhs)
                return Expression(f"AX_MIN({a.text}, {b.text})")
            case arith.IndexCastOp():
                load = self._value(op.input)
                return Expression(load.text, narrow=True)
            case memref.LoadOp():
                table = cast(memref.GetGlobalOp, op.memref.owner)
                return Expression(f"{table.name_.string_value()}[{self._value(op.indices[0]).text}]")
            case emitc.EmitC_CallOpaqueOp():
                return Expression(f"{op.callee.data}({', '.join(self._arguments(op))})")
            case func.CallOp():
                arguments = ", ".join(self._value(a).text for a in op.arguments)
                return Expression(f"{op.callee.string_value()}({arguments})")
            case _ if type(op) in _BINARY:
                sign, strength = _BINARY[type(op)]
                a, b = self._value(op.operands[0]), self._value(op.operands[1])
                return Expression(f"{a.at(strength)} {sign} {b.at(strength + 1)}", strength)
            case _:
                raise UserError(f"{op.name} has no form in C; run convert-tu-to-c before the target c")

    def _select(self, op: arith.SelectOp) -> Expression:
        condition, a, b = (self._value(v) for v in (op.cond, op.lhs, op.rhs))
        if (a.text, b.text) == ("1", "0"):
            return condition
        texts = condition.at(_CONDITIONAL + 1), a.at(_CONDITIONAL + 1), b.at(_CONDITIONAL)
        return Expression("{} ? {} : {}".format(*texts), _CONDITIONAL)

    def _arguments(self, op: emitc.EmitC_CallOpaqueOp) -> list[str]:
        if op.args is None:
            return [self._value(a).text for a in op.call_args]
        texts: list[str] = []
        for argument in op.args:
            match argument:
                case IntegerAttr(value=value, type=IndexType()):
                    texts.append(self._value(op.call_args[value.data]).text)
                case IntegerAttr(value=value):
                    texts.append(str(value.data))
                case StringAttr(data=data):
                    texts.append(f'"{data}"')
                case emitc.EmitC_OpaqueAttr(value=value):
                    texts.append(value.data)
                case _:
                    raise UserError(f"{op.name}: argument {argument} has no form in C")
        return texts

    def _name(self, value: SSAValue) -> str:
        """A new name for a value, from its hint."""
        base = value.name_hint or "v"
        base = base if base.isidentifier() else "v"
        name, number = base, 1
        while name in self._used:
            number += 1
            name = f"{base}{number}"
        self._used.add(name)
        self._names[value] = Expression(name)
        return name


def _declared(t: Attribute, name: str) -> str:
    """A declaration of a value of this type."""
    match t:
        case IndexType():
            return f"int64_t {name}"
        case IntegerType(width=width) if width.data == 1:
            return f"int {name}"
        case IntegerType():
            return f"int {name}"
        case Float32Type():
            return f"float {name}"
        case emitc.EmitC_OpaqueType(value=value):
            return f"{value.data} {name}"
        case emitc.EmitC_PointerType(pointee_type=emitc.EmitC_OpaqueType(value=value)):
            return f"{value.data} *{name}"
        case _:
            raise UserError(f"type {t} has no form in C; run convert-tu-to-c before the target c")
