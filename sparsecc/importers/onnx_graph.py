"""Walks the graph of an ONNX model and builds a function of the `nn` dialect, folding what is constant.

A name of the graph stands for a Value: a constant known now, or an SSA value of the function. Handlers of
single operators take a Node and return Values. Operators without a handler are expanded by the function body
that the model, or ONNX itself, defines for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from sparsecc.errors import UserError
from sparsecc.importers.constants import Constant
from sparsecc.importers.emitter import Emitter
from sparsecc.importers.files import quote
from sparsecc.importers.onnx_proto import TensorReader, onnx_library
from sparsecc.importers.values import Builder, Value

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

# Functions that call functions: deeper is a cycle.
_DEPTH = 32


Results = Value | Sequence[Value | None]
Handler = Callable[["Node"], Results]


class Node(Emitter):
    """One node of the graph: attributes and inputs with the errors that name it."""

    def __init__(self, graph: Graph, proto: onnx.NodeProto, opset: int, inputs: Sequence[Value | None]):
        self.graph, self.proto, self.opset, self.inputs = graph, proto, opset, inputs
        self._attributes = {a.name: a for a in proto.attribute}
        name = graph.prefix + (proto.name or (proto.output[0] if proto.output else ""))
        where = f"{graph.source}, node {quote(name, 200)} ({quote(proto.op_type)})"
        super().__init__(graph.builder, name, where)

    # -- inputs

    def optional(self, i: int) -> Value | None:
        """Input i, or None when it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def value(self, i: int) -> Value:
        """Input i, which must be given."""
        if (value := self.optional(i)) is None:
            self.fail(f"input {i} is missing")
        return value

    def known(self, i: int) -> Array:
        """Input i, which must be constant."""
        value = self.value(i)
        if value.constant is None:
            self.fail(
                f"input {i} ({quote(self.proto.input[i])}) is computed at run time, but shapes and positions "
                "must be known when compiling",
                "make it a constant of the model",
            )
        return value.constant.array()

    def known_ints(self, i: int) -> list[int]:
        """Input i, which must be a constant list of integers."""
        array = self.known(i)
        if array.ndim > 1 or array.dtype.kind not in "iu":
            self.fail(f"input {i} is {array.dtype} of shape {list(array.shape)}; needed a list of integers")
        return [int(v) for v in array.ravel()]

    def scalar(self, i: int) -> float:
        """Input i, which must be one constant number."""
        array = self.known(i)
        if array.size != 1:
            self.fail(f"input {i} has {array.size} elements; needed 1")
        return array.ravel()[0].item()

    def wants(self, i: int) -> bool:
        """Whether output i is used."""
        return i < len(self.proto.output) and bool(self.proto.output[i])

    # -- attributes

    def has(self, name: str) -> bool:
        return name in self._attributes

    def _attribute(self, name: str, kind: int, what: str) -> Any:
        attribute = self._attributes[name]
        if attribute.type != kind:
            self.fail(f"attribute {name} is not {what}")
        return attribute

    def integer(self, name: str, default: int | None = None) -> int:
        if name in self._attributes:
            return self._attribute(name, 2, "an integer").i
        if default is None:
            self.fail(f"attribute {name} is missing")
        return default

    def real(self, name: str, default: float) -> float:
        return self._attribute(name, 1, "a number").f if name in self._attributes else default

    def text(self, name: str, default: str) -> str:
        if name not in self._attributes:
            return default
        return self._attribute(name, 3, "a text").s.decode("utf-8", "replace")

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        if name in self._attributes:
            return list(self._attribute(name, 7, "a list of integers").ints)
        if default is None:
            self.fail(f"attribute {name} is missing")
        return list(default)

    def reals(self, name: str) -> list[float]:
        return list(self._attribute(name, 6, "a list of numbers").floats) if name in self._attributes else []

    def texts(self, name: str, default: Sequence[str]) -> list[str]:
        if name not in self._attributes:
            return list(default)
        return [s.decode("utf-8", "replace") for s in self._attribute(name, 8, "a list of texts").strings]

    def tensor(self, name: str) -> Constant:
        attribute = self._attribute(name, 4, "a tensor")
        return self.graph.reader.dense(attribute.t, f"{self.where}, attribute {name}")

    def sparse_tensor(self, name: str) -> Constant:
        attribute = self._attribute(name, 11, "a sparse tensor")
        return self.graph.reader.sparse(attribute.sparse_tensor, f"{self.where}, attribute {name}")

    def subgraph(self, name: str) -> onnx.GraphProto:
        return self._attribute(name, 5, "a graph").g

    def refuse(self, name: str, allowed: Sequence[Any], found: Any) -> None:
        """Raise an error unless an attribute has one of the supported values."""
        if found not in allowed:
            shown = ", ".join(map(repr, allowed))
            self.fail(f"attribute {name} is {found!r}; only {shown} is supported")


class Graph:
    """A graph, or the body of a function, while it is imported."""

    def __init__(
        self, source: str, builder: Builder, reader: TensorReader, opsets: Mapping[str, int],
        functions: Mapping[tuple[str, str], onnx.FunctionProto], handlers: Mapping[str, Handler],
        prefix: str = "", outer: Mapping[str, Value] | None = None, depth: int = 0,
    ):  # fmt: skip
        self.source, self.builder, self.reader = source, builder, reader
        self.opsets, self.functions, self.handlers, self.prefix, self.depth = (
            opsets, functions, handlers, prefix, depth,
        )  # fmt: skip
        self.scope: dict[str, Value] = dict(outer or {})

    def inside(self, prefix: str, opsets: Mapping[str, int], outer: Mapping[str, Value]) -> Graph:
        """The graph of a function or a branch that this one calls."""
        if self.depth >= _DEPTH:
            raise UserError(f"{self.source}: functions call each other {_DEPTH} deep; remove the recursion")
        return Graph(
            self.source, self.builder, self.reader, opsets, self.functions, self.handlers,
            self.prefix + prefix, outer, self.depth + 1,
        )  # fmt: skip

    def add_initializers(self, graph: onnx.GraphProto) -> None:
        """Read the constants of the graph, sparse ones included."""
        for tensor in graph.initializer:
            where = f"{self.source}, initializer {quote(tensor.name, 200)}"
            self._define(tensor.name, Value.of(self.reader.dense(tensor, where)))
        for sparse in graph.sparse_initializer:
            where = f"{self.source}, sparse initializer {quote(sparse.values.name, 200)}"
            self._define(sparse.values.name, Value.of(self.reader.sparse(sparse, where)))

    def _define(self, name: str, value: Value) -> None:
        if not name:
            raise UserError(f"{self.source}: a constant of the graph has no name; export the model again")
        self.scope[name] = value

    def run(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[Value]:
        """Import the nodes; the values of the outputs."""
        for proto in self._sorted(nodes):
            self._import(proto)
        for name in outputs:
            if name not in self.scope:
                raise UserError(
                    f"{self.source}: output {quote(name, 200)} of the graph is computed by no node; export "
                    "the model again"
                )
        return [self.scope[name] for name in outputs]

    def _sorted(self, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """The nodes so that each comes after those it reads."""
        maker: dict[str, int] = {}
        for i, node in enumerate(nodes):
            for name in filter(None, node.output):
                if name in maker:
                    raise UserError(
                        f"{self.source}: two nodes compute {quote(name, 200)}; every name needs one, so "
                        "export the model again"
                    )
                maker[name] = i
        needs: list[set[int]] = []
        for node in nodes:
            read = [*node.input, *_captured(node)]
            for name in filter(None, read):
                if name not in maker and name not in self.scope:
                    raise UserError(
                        f"{self.source}, node {quote(node.name or '?', 200)} ({node.op_type}): reads "
                        f"{quote(name, 200)}, which is no input, constant or result; export the model again"
                    )
            needs.append({maker[name] for name in read if name in maker})
        ready = [i for i, need in enumerate(needs) if not need]
        users: dict[int, list[int]] = {}
        for i, need in enumerate(needs):
            for j in need:
                users.setdefault(j, []).append(i)
        left = [len(need) for need in needs]
        order: list[int] = []
        ready.reverse()
        while ready:
            i = ready.pop()
            order.append(i)
            for user in reversed(users.get(i, [])):
                left[user] -= 1
                if not left[user]:
                    ready.append(user)
        if len(order) < len(nodes):
            stuck = next(node for i, node in enumerate(nodes) if left[i])
            raise UserError(
                f"{self.source}, node {quote(stuck.name or '?', 200)} ({stuck.op_type}): its inputs depend "
                "on its own result; a graph must have no cycle, so export the model again"
            )
        return [nodes[i] for i in order]

    def _import(self, proto: onnx.NodeProto) -> None:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        inputs = [self.scope[name] if name else None for name in proto.input]
        node = Node(self, proto, self.opsets.get(domain, 1 if domain else 0), inputs)
        key = f"{domain}::{proto.op_type}" if domain else proto.op_type
        if (domain, proto.op_type) in self.functions:
            results = self._call(node, self.functions[domain, proto.op_type], {})
        elif (handler := self.handlers.get(key)) is not None:
            found = handler(node)
            results = [found] if isinstance(found, Value) else list(found)
        elif (standard := _standard_body(node, domain)) is not None:
            results = self._call(node, *standard)
        else:
            node.fail(
                f"operator {quote(key, 100)} is not known",
                "express it by operators that are, as a function of the model for instance, or cut it off",
            )
        for i, name in enumerate(proto.output):
            if not name:
                continue
            if (result := results[i] if i < len(results) else None) is None:
                node.fail(f"output {i} ({quote(name)}) is not supported")
            self.scope[name] = result

    def _call(
        self, node: Node, body: onnx.FunctionProto, defaults: Mapping[str, onnx.AttributeProto]
    ) -> list[Value | None]:
        """The results of a function called by a node; None for those that the node does not use."""
        given = {**defaults, **{a.name: a for a in (*body.attribute_proto, *node.proto.attribute)}}
        opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in body.opset_import}
        scope = {
            name: value for name, value in zip(body.input, node.inputs, strict=False) if value is not None
        }
        missing = set(body.input) - set(scope)
        nodes = [_bound(n, given, missing) for n in body.node]
        inner = self.inside(f"{node.proto.name or node.proto.op_type}/", opsets, scope)
        used = [name for i, name in enumerate(body.output) if node.wants(i)]
        results = dict(zip(used, inner.run(nodes, used), strict=True))
        return [results.get(name) for name in body.output]


def _captured(node: onnx.NodeProto) -> set[str]:
    """Names that the branches of a node read from around it."""
    names: set[str] = set()
    for attribute in node.attribute:
        if not attribute.HasField("g"):
            continue
        graph = attribute.g
        made = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
        made |= {i.name for i in graph.input}
        for inner in graph.node:
            names |= {name for name in (*inner.input, *_captured(inner)) if name and name not in made}
            made |= set(inner.output)
        names |= {o.name for o in graph.output} - made
    return names


def _bound(
    node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto], missing: set[str]
) -> onnx.NodeProto:
    """A node of a function's body with the attributes of the call, and without inputs that it leaves out."""
    copy = onnx_library().NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.append(attribute)
        elif attribute.ref_attr_name in given:
            named = copy.attribute.add()
            named.CopyFrom(given[attribute.ref_attr_name])
            named.name = attribute.name
    for i, name in enumerate(copy.input):
        if name in missing:
            copy.input[i] = ""
    return copy


def _standard_body(
    node: Node, domain: str
) -> tuple[onnx.FunctionProto, dict[str, onnx.AttributeProto]] | None:
    """The body that ONNX defines for an operator, if it does, and its attributes' defaults."""
    library = onnx_library()
    try:
        schema = library.defs.get_schema(node.proto.op_type, node.opset, domain)
    except Exception:  # the library's own kind of error: there is no such operator
        return None
    body = library.FunctionProto()
    defaults = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.name}
    if schema.has_function:
        # Bodies are written for several versions; the newest one not after the model's serves.
        versions = [v for v in schema.function_opset_versions if v <= node.opset]
        text = schema.get_function_with_opset_version(max(versions)) if versions else None
        if text is not None:
            body.ParseFromString(text)
            return body, defaults
    if schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= node.opset]
        types = [_type_of(v) for v in node.inputs]
        text = (
            schema.get_context_dependent_function_with_opset_version(
                max(versions), node.proto.SerializeToString(), types
            )
            if versions
            else None
        )
        if text:
            body.ParseFromString(text)
            return body, defaults
    if schema.has_function:
        body.CopyFrom(schema.function_body)
        return body, defaults
    return None


_NUMBERS = {
    "f32": 1, "ui8": 2, "i8": 3, "ui16": 4, "i16": 5, "i32": 6, "i64": 7, "i1": 9,
    "f16": 10, "f64": 11, "ui32": 12, "ui64": 13, "bf16": 16,
}  # fmt: skip


def _type_of(value: Value | None) -> bytes:
    """The type of a value as ONNX writes it."""
    proto = onnx_library().TypeProto()
    if value is not None:
        proto.tensor_type.elem_type = _NUMBERS[value.element]
        for extent in value.shape:
            proto.tensor_type.shape.dim.add().dim_value = extent
    return proto.SerializeToString()
