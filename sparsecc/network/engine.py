"""What multiplies the constant matrices of a network: an engine, one for each family of targets.

A network is calls of the host library and of products. `sparsecc.network_compiler` knows the host and the
memory; an engine compiles one product at a time to a layer, gives the C that the layers need, and tells what
a run of them reports. Adding a family is adding an engine to `engine_for`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sparsecc.codegen.parts import Part
from sparsecc.errors import UserError
from sparsecc.importers.matrix import Csr
from sparsecc.network.told import NetworkReport
from sparsecc.propagate.cuts import Indices
from sparsecc.stages import Stage
from sparsecc.target import AnyTarget, CpuTarget, Target
from sparsecc.target.crossbar import CrossbarTarget

if TYPE_CHECKING:
    from sparsecc.network_compiler import NetworkArtifact

Array = NDArray[Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How products are compiled: as of `sparsecc.compile`."""

    seed: int = 0
    effort: int = 1
    plan: str = "auto"
    confirm: bool = True


@dataclass(frozen=True, eq=False)
class Product:
    """What is to be compiled: y [M, n] = weight [M, K] x [K, n]."""

    name: str
    weight: Csr
    n: int
    module: ModuleOp
    """Its function alone, called main: the product and what is fused to it."""


class Layer(Protocol):
    """A product, compiled."""

    @property
    def name(self) -> str: ...

    @property
    def stages(self) -> Sequence[Stage]:
        """Its module after each pass."""
        ...


@dataclass(frozen=True, eq=False)
class Move:
    """Another order of the rows and columns of a matrix: for each new place the old one; None as they are."""

    rows: Indices | None
    columns: Indices | None
    used: Indices | None = None
    """Columns of the layer's weight that the matrix then has, where columns move."""

    @property
    def what(self) -> str:
        """What has another order."""
        return " and ".join(n for n, o in (("rows", self.rows), ("columns", self.columns)) if o is not None)


@dataclass(frozen=True)
class Operand:
    """An array of a product, in C."""

    text: str
    """An expression: where it begins."""
    elements: int
    kind: str
    """Type of the elements, as the host calls it."""
    constant: bool
    """It may not be written."""


@dataclass(frozen=True, eq=False)
class Call:
    """A product where the network calls it."""

    name: str
    symbol: str
    """layer0, layer1, ...: calls with one symbol are of one layer."""
    x: Operand
    y: Operand
    residual: Operand | None
    """What is added, where the product's function takes it."""
    step: int
    """Which step of the network it is."""


@dataclass(frozen=True, eq=False)
class Common:
    """What the variants of a network for any batch have together, besides data that are equal."""

    source: str
    """Of a file of its own: functions that their calls use."""
    declarations: str
    parts: Sequence[Part]
    """Data of the source."""
    init: str
    """Statements of model_init, done once; as of `EngineCode`."""


@dataclass(frozen=True, eq=False)
class EngineCode:
    """What the folder of a network holds of its engine.

    Beside the sources comes `engine.h` of the runtime folder that `copies` name: functions of main.c that
    begin and end a run and print what it cost.
    """

    source: str
    """What model.c begins with: a comment, includes, the programs of the layers."""
    headers: Sequence[str]
    """That model.h includes."""
    fields: str
    """Declarations in the structure `model`, which begin as zeros."""
    parameter: str
    """What model_init takes besides the model."""
    init: str
    """Statements of model_init; `m` is the model. They set m->error where something failed."""
    calls: Sequence[str]
    """For each product the statement that runs it, in order; returns -1 with m->error set on failure."""
    memory: str = ""
    """Further declarations, after the arena, which begin as anything."""
    definitions: str = ""
    """Before the structure `model`."""
    scratch: int = 0
    """Bytes that the statement of a product may use, from `m->arena + MODEL_SCRATCH` on."""
    allocates: bool = False
    """Whether the calls take memory while they run."""
    parts: Sequence[Part] = ()
    """Data; what model.c or another source declares is not declared again."""
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    copies: Mapping[str, Path] = field(default_factory=dict[str, Path])
    flags: str = "-ffp-contract=off"
    """Of the compiler, besides -I. -Ihost. Without contraction arithmetic is the same everywhere."""
    sources: str = ""
    """Further sources for the Makefile, as make writes them."""
    libraries: str = "-lm"
    common: Common | None = None
    """Only of variants."""


class Engine(ABC):
    """Compiles the products of networks for one target."""

    @property
    @abstractmethod
    def target(self) -> AnyTarget:
        """The target, used with the input type that products are in."""

    @property
    def in_type(self) -> str:
        """Element type of the factors."""
        return self.target.in_type

    def passes(self) -> list[ModulePass]:
        """That run once the operators are chosen."""
        return []

    @property
    def scales(self) -> str:
        """Of weights that are quantised, where nothing else is asked for: as for `nn-quantize`."""
        return "auto"

    @property
    def reads_inputs(self) -> bool:
        """Whether products may read inputs where the caller has them, else they are copied first."""
        return False

    @abstractmethod
    def compile(self, product: Product, options: Options, progress: Progress) -> Layer:
        """A product as a layer. Raises UserError."""

    def wanted(self, layer: Layer) -> Iterable[Move]:
        """Orders that a layer's plan gives its rows, or reads its columns in, where it would rather not.

        Of none where orders are free: so it is with kernels whose indices are part of their code.
        """
        return ()

    def moved_cycles(self, layer: Layer, move: Move) -> int | None:
        """Cycles of a product with its matrix in another order; None where its plan cannot have that."""
        return None

    def carried(
        self, product: Product, layer: Layer, move: Move, options: Options, progress: Progress
    ) -> Layer:
        """A product whose matrix is that of a layer in another order, by that layer's plan."""
        return self.compile(product, options, progress)

    @abstractmethod
    def code(self, title: str, layers: Sequence[Layer], calls: Sequence[Call]) -> EngineCode:
        """The C of all layers, and of their calls; layers go by call."""

    def cycles(self, layer: Layer) -> int | None:
        """What a product takes, where the target counts cycles."""
        return None

    @abstractmethod
    def build(self, folder: Path) -> Path:
        """Compile the program of an emitted folder for use here; returns it. Raises UserError."""

    def load(self, folder: Path, artifact: NetworkArtifact) -> Callable[..., tuple[Array, ...]] | None:
        """The network of a built folder as a function of its inputs; None where it runs as a program."""
        return None

    def measure(self, artifact: NetworkArtifact, threads: int = 1) -> dict[str, Any]:
        """What `report` needs of runs on the stored inputs, every layer checked. Raises UserError."""
        if threads != 1:
            raise UserError(f"threads: target {self.target.name} is no CPU; leave them out", exit_code=2)
        return artifact.run_program()

    @abstractmethod
    def report(self, artifact: NetworkArtifact, run: Mapping[str, Any] | None) -> NetworkReport:
        """The report of a network. run: what its program reported, None before it ran."""


def engine_for(target: AnyTarget, named: str | AnyTarget) -> Engine:
    """The engine for a target, used with the input type of products; `named` is what passes call it.

    Raises UserError for a family that has none yet.
    """
    match target:
        case Target():
            from sparsecc.network.tensor_unit import TensorUnitEngine

            return TensorUnitEngine(target, named)
        case CpuTarget():
            if target.in_type != "f32":
                from sparsecc.network.cpu_narrow import NarrowCpuEngine

                return NarrowCpuEngine(target, named)
            from sparsecc.network.cpu import CpuEngine

            return CpuEngine(target, named)
        case CrossbarTarget():
            from sparsecc.network.crossbar import CrossbarEngine

            return CrossbarEngine(target, named)
