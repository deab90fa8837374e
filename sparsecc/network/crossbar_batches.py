"""Products of networks for any batch on crossbars: arrays that are written once, whatever batches follow.

Every position is one read of the arrays. So all variants of a network call the same functions, which take the
number of positions, on the arrays that the network for the largest batch was placed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from xdsl.dialects import func

from sparsecc.codegen.folder import copies_of
from sparsecc.codegen.network import comment, steps
from sparsecc.crossbar_any_n import CrossbarKernel, PositionsCost
from sparsecc.dialects.host import Tensor
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr
from sparsecc.network.crossbar import CrossbarEngine, CrossbarLayer
from sparsecc.network.engine import Call, Common, EngineCode, Layer, Options, Product, Progress
from sparsecc.network.tensor_unit import source_of
from sparsecc.target.crossbar_header import crossbar_header
from sparsecc.toolchain import RUNTIME

if TYPE_CHECKING:
    from sparsecc.network_compiler import NetworkArtifact

CALLS = """
/* A product of n positions on the arrays of its layer; nothing of it overlaps with others. */
#define PRODUCT(i, layer, program, n) \\
    do { \\
        ax_machine *const machine = m->machine[layer]; \\
        ax_scope(machine, model_products[i]); \\
        if (program(machine, m->x[i], m->y[i], n) != 0 || ax_fence(machine) != 0) { \\
            m->error = ax_error(machine); \\
            return -1; \\
        } \\
    } while (0)
"""


@dataclass(frozen=True)
class WrittenEngine(CrossbarEngine):
    """The engine of variants of a network whose arrays are those of its largest batch."""

    written: tuple[CrossbarLayer, ...]
    """The layers of the largest batch, each once."""

    @staticmethod
    def of(largest: NetworkArtifact) -> WrittenEngine:
        """The engine for variants of a network. Raises UserError where its layers do not fit the chip."""
        engine = cast(CrossbarEngine, largest.engine)
        layers = tuple(cast(CrossbarLayer, layer) for layer in dict.fromkeys(largest.layers))
        engine.check_room(layers)
        return WrittenEngine(engine.chip, engine.named, layers)

    @property
    def arrays(self) -> int:
        """That are written."""
        return sum(layer.artifact.predicted().arrays for layer in self.written)

    @property
    def program_energy_pj(self) -> float:
        """Of writing them."""
        reports = [layer.artifact.timing.report["crossbar"] for layer in self.written]
        return sum(float(one["program"]["energy_pj"]) for one in reports)

    def compile(self, product: Product, options: Options, progress: Progress) -> CrossbarLayer:
        for layer in self.written:
            if layer.name == product.name and _same(layer.weight, product.weight):
                return layer
        raise UserError(
            f"layer {product.name} has other weights in another batch, and arrays are written once for all "
            "batches: give --batch"
        )

    def _symbol(self, layer: Layer) -> tuple[int, str]:
        """The machine of a layer, and what its function is called."""
        number = self.written.index(cast(CrossbarLayer, layer))
        return number, f"product{number}"

    def code(self, title: str, layers: Sequence[Layer], calls: Sequence[Call]) -> EngineCode:
        kernels = [CrossbarKernel(layer.name, layer.artifact) for layer in self.written]
        programs = {f"product{i}": kernel.module() for i, kernel in enumerate(kernels)}
        source, parts = source_of(title, programs, "public")
        declared = [
            f"int {name}_program(ax_machine *m);\nint {name}(ax_machine *m, int x, int y, int64_t n);\n"
            for name in programs
        ]
        write = [
            f"if (!m->error && {name}_program(machines[{i}]) != 0) m->error = ax_error(machines[{i}]);"
            for i, name in enumerate(programs)
        ]
        init = ["memcpy(m->machine, machines, MODEL_LAYERS * sizeof *machines);"]
        statements: list[str] = []
        for i, (call, layer) in enumerate(zip(calls, layers, strict=True)):
            number, symbol = self._symbol(layer)
            for name, operand in (("x", call.x), ("y", call.y)):
                data = f"(void *)(uintptr_t){operand.text}" if operand.constant else operand.text
                init.append(
                    f'm->{name}[{i}] = ax_buffer(m->machine[{number}], "{name}", {data}, {operand.elements}, '
                    f"AX_{operand.kind.upper()});"
                )
            positions = call.y.elements // cast(CrossbarLayer, layer).artifact.operator.shape[0]
            statements.append(f"PRODUCT({i}, {number}, {symbol}, {positions});")
        init += [f"if (!m->error) m->error = ax_error(m->machine[{i}]);" for i in range(len(self.written))]
        return EngineCode(
            source=f"/* {comment(title)} */\n#include <stdint.h>\n#include <string.h>\n\n"
            f'#include "host.h"\n#include "model.h"\n{CALLS}',
            headers=["target.h"],
            fields="""\
    ax_machine *machine[MODEL_LAYERS + 1]; /* of each layer */
    int x[MODEL_PRODUCTS + 1], y[MODEL_PRODUCTS + 1]; /* buffers of the products */
""",
            definitions=f"#define MODEL_LAYERS {len(self.written)}\n",
            parameter="ax_machine *const *machines",
            init="\n".join(init),
            calls=statements,
            texts={"target.h": crossbar_header(self.chip)},
            copies=copies_of((RUNTIME / "network_batch_xb").iterdir()),
            flags="-Iaxsim -ffp-contract=off",
            sources="$(wildcard axsim/*.c)",
            common=Common(source, "".join(declared), parts, "\n".join(write)),
        )

    def costs(self, variants: Iterable[NetworkArtifact]) -> list[PositionsCost]:
        """Of all products of each variant. Simulated, each layer with all its numbers of positions."""
        calls = [list(zip(one.layers, _positions(one), strict=True)) for one in variants]
        costs: dict[Layer, dict[int, PositionsCost]] = {}
        for layer in self.written:
            numbers = {n for one in calls for called, n in one if called is layer}
            costs[layer] = CrossbarKernel(layer.name, layer.artifact).costs(sorted(numbers))
        each = [[costs[layer][n] for layer, n in one] for one in calls]
        return [PositionsCost(sum(c.cycles for c in one), sum(c.energy_pj for c in one)) for one in each]


def _same(a: Csr, b: Csr) -> bool:
    pairs = ((a.data, b.data), (a.indices, b.indices), (a.indptr, b.indptr))
    return a.shape == b.shape and all(np.array_equal(x, y) for x, y in pairs)


def _positions(artifact: NetworkArtifact) -> list[int]:
    """Of each call of a product."""
    calls = (op for op in steps(artifact.function) if isinstance(op, func.CallOp))
    return [cast(Tensor, op.results[0].type).get_shape()[1] for op in calls]
