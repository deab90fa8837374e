"""Products of networks on memristor crossbars: int8, each layer on arrays of its own, the rest on the host.

All layers must fit the chip's cells together: no array is written again once the network is programmed. Each
is simulated as a machine of its own, since layers follow each other and share no array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from xdsl.dialects.builtin import ModuleOp

from sparsecc.codegen.folder import copies_of
from sparsecc.compiler import compile
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr
from sparsecc.network.engine import Call, Engine, EngineCode, Layer, Options, Product, Progress
from sparsecc.network.tensor_unit import source_of
from sparsecc.scales import Scales
from sparsecc.stages import Stage
from sparsecc.target import AnyTarget
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_header import crossbar_header
from sparsecc.toolchain import RUNTIME, build_network, has_compiler

CALLS = """
/* A product on the arrays of its layer; nothing of it overlaps with what comes before or after. */
#define PRODUCT(i, layer, program) \\
    do { \\
        ax_machine *const machine = m->machine[layer]; \\
        const int64_t start = ax_cycles(machine); \\
        ax_scope(machine, model_products[i]); \\
        if (program(machine, m->x[i], m->y[i]) != 0 || ax_fence(machine) != 0) { \\
            m->error = ax_error(machine); \\
            return -1; \\
        } \\
        m->cycles[i] = ax_cycles(machine) - start; \\
    } while (0)
"""


@dataclass(frozen=True, eq=False)
class CrossbarLayer:
    """A product, compiled to instructions of crossbars."""

    name: str
    artifact: CrossbarArtifact
    weight: Csr
    """As it was given, in steps of int8."""

    @property
    def stages(self) -> Sequence[Stage]:
        return self.artifact.stages

    @property
    def program(self) -> ModuleOp:
        """Its instructions, before they become C."""
        return next(s.module for s in reversed(self.artifact.stages) if s.name == "xbar-schedule")

    @property
    def cells(self) -> int:
        """Cells of its arrays."""
        return self.artifact.cells_used


@dataclass(frozen=True)
class CrossbarEngine(Engine):
    """The engine of crossbars."""

    chip: CrossbarTarget
    named: str | AnyTarget

    @property
    def target(self) -> CrossbarTarget:
        return self.chip

    def compile(self, product: Product, options: Options, progress: Progress) -> CrossbarLayer:
        # Weights are in steps of int8 already.
        artifact = compile(
            product.weight, target=self.named, n=product.n, seed=options.seed, effort=options.effort,
            plan=options.plan, name=product.name, confirm=options.confirm, scales=Scales(weight=1.0),
            progress=progress,
        )  # fmt: skip
        assert isinstance(artifact, CrossbarArtifact)
        return CrossbarLayer(product.name, artifact, product.weight)

    def check_room(self, layers: Sequence[CrossbarLayer]) -> None:
        """Raises UserError where the chip has too few cells for all layers."""
        array = self.chip.array
        needed, found = sum(layer.cells for layer in layers), array.count * array.rows * array.cols
        if needed > found:
            raise UserError(
                f"the network's products take {needed} cells, and target {self.chip.name} has {found} "
                f"({array.count} arrays of {array.rows} x {array.cols}): use a target with more arrays, or "
                "compile the layers one by one"
            )

    def code(self, title: str, layers: Sequence[Layer], calls: Sequence[Call]) -> EngineCode:
        of_symbol = {
            call.symbol: cast(CrossbarLayer, layer) for call, layer in zip(calls, layers, strict=True)
        }
        self.check_room(list(of_symbol.values()))
        number = {symbol: i for i, symbol in enumerate(of_symbol)}
        source, parts = source_of(title, {symbol: layer.program for symbol, layer in of_symbol.items()})
        init = ["memcpy(m->machine, machines, MODEL_LAYERS * sizeof *machines);"]
        for symbol, i in number.items():
            init.append(
                f"if (!m->error && {symbol}_program(m->machine[{i}]) != 0) "
                f"m->error = ax_error(m->machine[{i}]);"
            )
        for i, call in enumerate(calls):
            machine = f"m->machine[{number[call.symbol]}]"
            for name, operand in (("x", call.x), ("y", call.y)):
                data = f"(void *)(uintptr_t){operand.text}" if operand.constant else operand.text
                init.append(
                    f'm->{name}[{i}] = ax_buffer({machine}, "{name}", {data}, {operand.elements}, '
                    f"AX_{operand.kind.upper()});"
                )
        init += [f"if (!m->error) m->error = ax_error(m->machine[{i}]);" for i in number.values()]
        return EngineCode(
            source=source + CALLS,
            headers=["target.h"],
            fields=f"""\
#define MODEL_LAYERS {len(number)}
    ax_machine *machine[MODEL_LAYERS + 1]; /* of each layer */
    int x[MODEL_PRODUCTS + 1], y[MODEL_PRODUCTS + 1]; /* buffers of the products */
    int64_t cycles[MODEL_PRODUCTS + 1];               /* that each product took in the last inference */
""",
            parameter="ax_machine *const *machines",
            init="\n".join(init),
            calls=[f"PRODUCT({i}, {number[call.symbol]}, {call.symbol});" for i, call in enumerate(calls)],
            parts=parts,
            texts={"target.h": crossbar_header(self.chip)},
            copies=copies_of((RUNTIME / "network_xb").iterdir()),
            flags="-Iaxsim -ffp-contract=off",
            sources="$(wildcard axsim/*.c)",
        )

    def cycles(self, layer: Layer) -> int:
        one = cast(CrossbarLayer, layer).artifact
        return one.timing.cycles if has_compiler() else round(one.estimate.cycles)

    def build(self, folder: Path) -> Path:
        return build_network(folder)

    def report(self, artifact: Any, run: Mapping[str, Any] | None) -> Any:
        from sparsecc.crossbar_network_report import CrossbarNetworkReport

        return CrossbarNetworkReport.of(artifact, run)
