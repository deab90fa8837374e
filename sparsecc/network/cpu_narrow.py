"""Products of networks on CPUs in int8, bf16 and f16: kernels over words, which finish their sums themselves.

The patches of convolutions are written by the host, in the products' type: what one vector of words holds are
elements of several rows of patches, so that none of them lies in the image as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from xdsl.passes import ModulePass

from sparsecc.codegen.cpu_narrow import narrow_parts
from sparsecc.codegen.network import comment
from sparsecc.codegen.parts import Part, list_tables
from sparsecc.cpu.narrow_tune import choose_narrow, element_of, plain
from sparsecc.cpu.scratch import words_floats
from sparsecc.cpu.tune import Choice
from sparsecc.cpu.variant import Variant
from sparsecc.cpu.words import as_words, depth_of
from sparsecc.dialects import cpu
from sparsecc.dialects.sparse_epilogue import epilogue_of
from sparsecc.epilogue import Epilogue
from sparsecc.importers.matrix import Csr
from sparsecc.network.cpu import CpuEngine, check_plan
from sparsecc.network.cpu_layer import SCRATCH
from sparsecc.network.engine import Call, EngineCode, Layer, Options, Product, Progress
from sparsecc.passes.convert_linalg_to_sparse import ConvertLinalgToSparsePass
from sparsecc.passes.convert_sparse_to_cpu import ConvertSparseToCpuPass, weight_matrix
from sparsecc.passes.fuse_into_products import FuseIntoProductsPass
from sparsecc.stages import Stage, named_target, run_passes


@dataclass(frozen=True, eq=False)
class NarrowLayer:
    """A product of a narrow type, compiled to a kernel."""

    name: str
    stages: Sequence[Stage]
    product: cpu.SpmmOp
    weight: Csr
    n: int
    choice: Choice
    epilogue: Epilogue

    @property
    def variant(self) -> Variant:
        return self.choice.variant

    @property
    def reason(self) -> str:
        return self.product.reason.data if self.product.reason else ""

    @property
    def fused(self) -> list[str]:
        """What its kernel does besides the sums."""
        e = self.epilogue
        scale = None if e.scale is None else "scale per row" if e.scale.ndim else "scale"
        limits = "relu" if e.relu else f"limits {e.low:g} and {e.high:g}" if e.limited else None
        parts = ["bias" if e.bias is not None else None, scale, "residual" if e.residual else None, limits]
        sums = "i32" if self.product.weight.element_type.name == "integer_type" else "f32"
        kind = None if e.element == sums else f"to {e.element}"
        parts.append(None if e.activation is None else e.activation.name)
        return [part for part in (*parts, kind) if part is not None]


@dataclass(frozen=True)
class NarrowCpuEngine(CpuEngine):
    """The engine of CPUs for products in int8, bf16 or f16."""

    @property
    def scales(self) -> str:
        # A kernel has a scale for each row at the price of one in all.
        return "channel"

    def passes(self) -> list[ModulePass]:
        # Integers are compared for equality with what is rounded as the host rounds it.
        activations = "exact" if self.chip.in_type == "i8" else "all"
        return [FuseIntoProductsPass(patches=False, activations=activations)]

    def compile(self, product: Product, options: Options, progress: Progress) -> NarrowLayer:  # pyright: ignore[reportIncompatibleMethodOverride]  # a layer of another kind
        check_plan(options.plan)
        with named_target(self.named) as path:
            passes = [
                ConvertLinalgToSparsePass(target=path),
                ConvertSparseToCpuPass(target=path, kernel=options.plan, seed=options.seed, blas=False),
            ]
            stages = run_passes(product.module, passes, lambda stage: stage.module.verify(), progress)
        spmm = next(op for op in stages[-1].module.walk() if isinstance(op, cpu.SpmmOp))
        after = epilogue_of(spmm.res)
        epilogue = plain(self.chip) if after is None else after.epilogue
        w = weight_matrix(spmm.weight)
        # The same question as the pass asked, so that its answer is at hand.
        follows = None if after is None else after.epilogue
        choice = choose_narrow(w, self.chip, product.n, options.plan, follows, options.seed)
        return NarrowLayer(product.name, stages, spmm, w, product.n, choice, epilogue)

    # -- C

    def code(self, title: str, layers: Sequence[Layer], calls: Sequence[Call]) -> EngineCode:
        made = super().code(title, layers, calls)
        # Integers are compared for equality: what the host scales must be rounded as it is written.
        flags = f"{' '.join(self.chip.flags)} -O3 -ffp-contract=off -Isc"
        return replace(made, flags=flags)

    def _layer(
        self, layer: Layer, symbol: str, source: list[str], parts: list[Part], texts: dict[str, str]
    ) -> None:
        """Add a layer's tables and code."""
        layer = cast(NarrowLayer, layer)
        made = narrow_parts(cpu.KernelOp(symbol, layer.product, layer.name), self.chip, layer.epilogue)
        tables = list_tables(made.tables, parts)
        source.append(f"\n/* {comment(layer.name)}: {layer.variant.name} */\n{tables}")
        if made.code is not None:
            texts[f"{symbol}.s"] = made.code
            source.append(f"extern const sc_chunk {made.code_name}_table[];\n")
        source.append(f"{made.before}static const sc_words {symbol} = {{{made.struct}}};\n")

    def _memory(self, layer: Layer) -> tuple[int, int]:
        """Floats of scratch for each thread."""
        layer = cast(NarrowLayer, layer)
        element = element_of(self.chip)
        words = as_words(layer.weight, element, depth_of(self.chip, element))
        return 0, words_floats((layer.weight.shape[0], len(words.columns)), layer.variant, self.chip, layer.n)

    def _statement(self, layer: Layer, found: Call) -> str:
        n = cast(NarrowLayer, layer).n
        residual = f"{found.residual.text}, {n}" if found.residual else "NULL, 0"
        x, y = f"(const float *)(const void *)({found.x.text})", f"(float *)(void *)({found.y.text})"
        return f"RUN(sc_words_in(&{found.symbol}, {x}, {n}, {y}, {n}, {n}, {residual}, {SCRATCH}));"
