"""Walks the graph of a program of torch and builds a function of the `nn` dialect, folding what is constant.

A node of the graph stands for a Value, a number, or a list of them. Handlers of single operators take a Node,
which gives arguments by the names of the operator's schema, and return what the operator does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NoReturn

from sparsecc.errors import UserError
from sparsecc.importers.emitter import Emitter
from sparsecc.importers.files import quote
from sparsecc.importers.torch_tensor import constant_of, element_name
from sparsecc.importers.values import Builder, Value

Results = Value | Sequence["Value | None"] | float
Handler = Callable[["Node"], Results]

# Checks of shapes and types, which hold for the shapes that are compiled.
_CHECKS = re.compile(r"aten::(_assert_|sym_constrain_range|_assert_scalar)")
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


class Node(Emitter):
    """One call of the graph: its arguments, with the errors that name it and the line it comes from."""

    def __init__(self, graph: Graph, node: Any, given: Mapping[str, Any]):
        self.graph, self.node, self.given = graph, node, given
        place = _place(node)
        where = f"{graph.source}, node {quote(node.name, 200)} ({operator_name(node.target)}){place}"
        super().__init__(graph.builder, graph.label(node), where)

    def fail(self, problem: str, advice: str = "write the model without this") -> NoReturn:
        """Raise the error that this node is wrong or not supported."""
        super().fail(problem, advice)

    def has(self, name: str) -> bool:
        """Whether an argument is given, and is not None."""
        return self.given.get(name) is not None

    def value(self, name: str, element: str | None = None) -> Value:
        """A tensor; a number becomes a constant of `element`."""
        found = self.given.get(name)
        if isinstance(found, Value):
            return found
        if element is not None and isinstance(found, bool | int | float):
            return Value.array(found, element)
        self.fail(f"argument {name} is {_shown(found)}; needed a tensor")

    def optional(self, name: str) -> Value | None:
        return self.value(name) if self.has(name) else None

    def values(self, name: str) -> list[Value]:
        """A list of tensors."""
        found = self._listed(name)
        tensors = [v for v in found if isinstance(v, Value)]
        if len(tensors) < len(found):
            self.fail(f"argument {name} is {_shown(found)}; needed a list of tensors")
        return tensors

    def _listed(self, name: str) -> list[Any]:
        """An argument as a list; one value alone is a list of one."""
        found: Any = self.given.get(name)
        return list(found) if isinstance(found, list | tuple) else [found]  # pyright: ignore[reportUnknownArgumentType]

    def number(self, name: str, default: float | None = None) -> float:
        """A number known now; a constant tensor of one element is one, too."""
        found = self.given.get(name)
        if found is None and default is not None:
            return default
        if isinstance(found, Value) and found.constant is not None and found.constant.array().size == 1:
            return found.constant.array().ravel()[0].item()
        if not isinstance(found, bool | int | float):
            self.fail(f"argument {name} is {_shown(found)}; needed a number that is known when compiling")
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self.number(name, default))

    def flag(self, name: str) -> bool:
        return bool(self.given.get(name))

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of integers; one alone is a list of one."""
        if default is not None and not self.has(name):
            return list(default)
        found = self._listed(name)
        numbers = [v for v in found if isinstance(v, int)]
        if len(numbers) < len(found):
            self.fail(f"argument {name} is {_shown(found)}; needed integers that are known when compiling")
        return numbers

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -max(1, rank) <= axis < max(1, rank):
            self.fail(f"axis {axis} is outside {rank} dimensions")
        return axis % max(1, rank)

    def axes(self, name: str, rank: int) -> list[int]:
        """Axes counted from the front; all of them when none is given."""
        found = self.integers(name, ())
        return [self.axis(a, rank) for a in found] if found else list(range(rank))

    @property
    def element(self) -> str:
        """The element type of the result, by torch's rules of promotion."""
        return element_name(self.node.meta["val"].dtype, self.where)

    def element_of(self, name: str, default: str) -> str:
        """The element type that a dtype argument names."""
        return element_name(self.given[name], self.where) if self.has(name) else default


class Graph:
    """A graph of torch while it is imported."""

    def __init__(self, source: str, builder: Builder, handlers: Mapping[str, Handler]):
        self.source, self.builder, self.handlers = source, builder, handlers
        self.scope: dict[Any, Any] = {}
        self._modules: Counter[str] = Counter()

    def run(self, graph: Any) -> list[Any]:
        """Import all calls; the values of the outputs. Placeholders are in the scope already."""
        calls = [n for n in graph.nodes if n.op == "call_function"]
        self._modules.update(_module(n) for n in calls)
        outputs: list[Any] = []
        for node in graph.nodes:
            match node.op:
                case "call_function":
                    self.scope[node] = self._call(node)
                case "get_attr":
                    found: Any = graph.owning_module
                    for part in node.target.split("."):
                        found = getattr(found, part)
                    where = f"{self.source}, constant {quote(str(node.target))}"
                    # A graph is an argument of control flow, which is refused where it is called.
                    tensor = hasattr(found, "layout")
                    self.scope[node] = Value.of(constant_of(found, where)) if tensor else None
                case "output":
                    outputs = list(self._resolved(node.args[0]))
                case _:
                    assert node.op == "placeholder", node.op
        return outputs

    def label(self, node: Any) -> str:
        """The module that a call belongs to, and the call where the module makes several."""
        module = _module(node)
        if not module:
            return node.name
        return module if self._modules[module] == 1 else f"{module}/{node.name}"

    def _resolved(self, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self._resolved(a) for a in argument]  # pyright: ignore[reportUnknownVariableType]
        try:
            return self.scope.get(argument, argument)
        except TypeError:  # slices and the like are no keys
            return argument

    def _call(self, node: Any) -> Any:
        arguments = [self._resolved(a) for a in node.args]
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            return self._python(node, arguments)
        name = schema.name
        if is_check(name):
            return None
        given = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        given |= dict(zip((a.name for a in schema.arguments), arguments, strict=False))
        given |= {key: self._resolved(value) for key, value in node.kwargs.items()}
        handler = self.handlers.get(name.removeprefix("aten::"))
        call = Node(self, node, given)
        if handler is None or not name.startswith("aten::"):
            call.fail(
                "this operator is not known",
                "express it by operators that are, or cut it off and run it in torch",
            )
        return handler(call)

    def _python(self, node: Any, arguments: list[Any]) -> Any:
        """getitem, and arithmetic on extents."""
        name = getattr(node.target, "__name__", str(node.target))
        if name == "getitem":
            return arguments[0][arguments[1]]
        if all(isinstance(a, bool | int | float) for a in arguments):
            return node.target(*arguments)
        raise UserError(
            f"{self.source}, node {quote(node.name, 200)} ({name}){_place(node)}: this operator is not "
            "known; express it by operators of torch on tensors"
        )


def is_check(name: str) -> bool:
    """Whether an operator only checks what it is given."""
    return bool(_CHECKS.match(name))


def operator_name(target: Any) -> str:
    """What an operator is called in messages."""
    schema = getattr(target, "_schema", None)
    return getattr(target, "__name__", str(target)) if schema is None else schema.name.replace("::", ".")


def _module(node: Any) -> str:
    """The path of the innermost module that a call belongs to."""
    stack = node.meta.get("nn_module_stack")
    return list(stack.values())[-1][0] if stack else ""


def _place(node: Any) -> str:
    """The line of the model that a node comes from, as far as it is known."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    # Frames inside torch say less than the last one outside it.
    own = [f for f in frames if "torch" not in PurePath(f[0]).parts] or frames
    return f", {own[-1][0]}:{own[-1][1]} in {own[-1][2]}" if own else ""


def _shown(value: Any) -> str:
    if isinstance(value, Value):
        return f"a tensor of shape {list(value.shape)}"
    return quote(repr(value), 60)
