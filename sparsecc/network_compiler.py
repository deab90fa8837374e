"""Compiles a whole network: from an ONNX file to one C program that checks itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.traits import SymbolTable

from sparsecc.calibration import Accuracy, Samples, compare, outputs_of, samples_of
from sparsecc.codegen.network import DESCR, NetworkProgram, name_of, steps
from sparsecc.codegen.network_folder import write_network
from sparsecc.dialects.host import HOST_TYPES, Tensor, kind_of
from sparsecc.emitted import Executable, built
from sparsecc.errors import UserError
from sparsecc.importers.matrix import make_csr
from sparsecc.importers.network import check_batch, read_network
from sparsecc.interpreters.host import DTYPES, in_model, weight_of
from sparsecc.masks import masked
from sparsecc.network.admission import check_sizes, check_weights
from sparsecc.network.check import NetworkCheck
from sparsecc.network.engine import Engine, Layer, NetworkReport, Options, Product, Progress, engine_for
from sparsecc.network.propagation import LayerGain, Propagation, propagated
from sparsecc.network.propagation import check as check_propagation
from sparsecc.network.quantised import calibrate as record
from sparsecc.network.quantised import integer_passes, product_type
from sparsecc.network.reorder import OrderGain, Orders, find_orders, matrices, ordered
from sparsecc.network.storage import Storage, plan_storage
from sparsecc.passes.convert_nn_to_host import ConvertNnToHostPass
from sparsecc.passes.sparse_propagate import SparsePropagatePass
from sparsecc.passes.sparse_reorder import SparseReorderPass
from sparsecc.stages import Stage, named_target, run_passes, save_stages, silent
from sparsecc.target import AnyTarget
from sparsecc.target.load import load_target

Array = NDArray[Any]


@dataclass(eq=False)
class NetworkArtifact:
    """A compiled network. Call it to run it."""

    name: str
    engine: Engine
    stages: tuple[Stage, ...]
    """As it was read, and with its operators chosen."""
    layers: tuple[Layer, ...]
    """Of each call of a product; calls of one function have one layer."""
    inputs: tuple[Array, ...]
    """That the program stores and checks itself with."""
    check: NetworkCheck
    """What it should compute for them."""
    storage: Storage
    accuracy: Accuracy | None
    """Of products in integers, against the network as it was read; None where no samples were given."""
    progress: Progress
    dense_layers: Callable[[], tuple[Layer, ...]]
    """The same products by dense plans, compiled when they are asked for."""
    propagation: Propagation | None
    """What zeros and constants carried across layers took away; None where that was not asked for."""
    layers_before: Callable[[Sequence[str]], dict[str, Layer]]
    """Products of these names as they would be without it, compiled when they are asked for."""
    ordered: list[OrderGain]
    """Layers whose rows or columns have an order that was carried through the network."""

    @property
    def target(self) -> AnyTarget:
        """The target, used with the type of products."""
        return self.engine.target

    @property
    def function(self) -> func.FuncOp:
        """The network's calls."""
        return _main(self.stages[-1].module)

    @property
    def input_names(self) -> tuple[str, ...]:
        return _names(self.function, "input_names", len(self.function.body.block.args))

    @property
    def output_names(self) -> tuple[str, ...]:
        return _names(self.function, "output_names", len(self.outputs))

    @property
    def outputs(self) -> tuple[SSAValue, ...]:
        return tuple(cast(func.ReturnOp, self.function.body.block.last_op).operands)

    @property
    def expected(self) -> tuple[Array, ...]:
        """The outputs for the stored inputs."""
        return tuple(self.check.reference.array(o) for o in self.outputs)

    @property
    def title(self) -> str:
        count, kind = len(set(self.layers)), self.target.in_type
        return f"{self.name}: {count} products on {self.target.name} in {kind}, the rest on the host"

    def program(self) -> NetworkProgram:
        return NetworkProgram(
            self.title, self.function, self.storage, self.engine, self.layers,
            list(zip(self.input_names, self.inputs, strict=True)), self.output_names, self.expected,
            self.check.bounds, self.check.checks(),
        )  # fmt: skip

    def save(self, folder: str | os.PathLike[str], ir: bool = False) -> None:
        """Write the folder that stands alone: C, data, all it calls, Makefile, report.json."""
        write_network(Path(folder), self.program(), self.predicted().to_json())
        if ir:
            save_stages(self.stages, Path(folder) / "ir")
            for layer in dict.fromkeys(self.layers):
                save_stages(layer.stages, Path(folder) / "ir" / _file_name(layer.name))

    @cached_property
    def _program(self) -> Executable:
        self.progress("compiling the C")
        return built(self, lambda folder: write_network(folder, self.program(), {}), self.engine.build)

    @cached_property
    def dense(self) -> NetworkArtifact:
        """The same network with dense plans for all products."""
        return replace(self, name=f"{self.name}, dense", layers=self.dense_layers())

    @cached_property
    def loaded(self) -> Callable[..., tuple[Array, ...]] | None:
        """The network in this process, where its target runs here: see `sparsecc.cpu_network`."""
        return self.engine.load(self._program.path.parent, self)

    def __call__(
        self, *inputs: Array, out: Sequence[Array] | None = None, threads: int | None = None
    ) -> Array | tuple[Array, ...]:
        """The network's result: its output, or all of them where it has several.

        Inputs in their order, of the shapes and types of the model. On a CPU results are written to the
        arrays `out`, where they are given, and computed in so many threads. Raises UserError.
        """
        if self.loaded is not None:
            found = self.loaded(inputs, out, 1 if threads is None else threads)
            return found[0] if len(found) == 1 else found
        if out is not None or threads is not None:
            raise UserError(
                f"out and threads are for CPUs; target {self.target.name} is none: leave them out"
            )
        given = checked_inputs(self.function, self.input_names, inputs)
        found = self._program.results(in_model(self.function, given), len(self.outputs))
        return found[0] if len(found) == 1 else found

    @cached_property
    def measurement(self) -> dict[str, Any]:
        """What the program reports of a run on the stored inputs, every layer checked."""
        return self.engine.measure(self)

    @cached_property
    def before(self) -> dict[str, Layer]:
        """Products that became smaller, or went, as they were in the network that was read; by name."""
        if self.propagation is None or not (self.propagation.layers or self.propagation.gone):
            return {}
        return self.layers_before([*(g.name for g in self.propagation.layers), *self.propagation.gone])

    @cached_property
    def gains(self) -> list[LayerGain]:
        """What layers gained from their neighbours, with their cycles where the target counts them."""
        after = {layer.name: layer for layer in self.layers}
        cycles = {
            name: [found for one in (layer, after[name]) if (found := self.engine.cycles(one)) is not None]
            for name, layer in self.before.items()
            if name in after
        }
        if self.propagation is None:
            return []
        return self.propagation.with_cycles({n: c for n, c in cycles.items() if len(c) == 2}).layers

    def run_program(self, *options: str) -> dict[str, Any]:
        """What the program reports of a run on the stored inputs; options: more arguments for it."""
        program = self._program
        self.progress("running the network")
        return program.report(*options)

    def rerun(self, outputs: Sequence[str], trace: str | None) -> None:
        """Run on the stored inputs once more and write the outputs as .npy, and a Chrome trace."""
        named = [part for path in outputs for part in ("--output", path)]
        self._program.run(*named, *(["--trace", trace] if trace else []))

    def predicted(self) -> NetworkReport:
        """The report as far as it is known without building the program."""
        return self.engine.report(self, None)

    @cached_property
    def report(self) -> NetworkReport:
        """The report of a run."""
        return self.engine.report(self, self.measurement)

    def measured(self, threads: int) -> NetworkReport:
        """The report of a run in so many threads. Raises UserError where the target has none."""
        if threads == 1:
            return self.report
        return self.engine.report(self, self.engine.measure(self, threads))


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)


def _main(module: ModuleOp) -> func.FuncOp:
    return next(op for op in module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "main")


def _names(function: func.FuncOp, key: str, count: int) -> tuple[str, ...]:
    found = function.attributes.get(key)
    if not isinstance(found, ArrayAttr):
        return tuple(f"{key.partition('_')[0]}{i}" for i in range(count))
    return tuple(cast(StringAttr, name).data for name in cast("ArrayAttr[Attribute]", found))


def checked_inputs(function: func.FuncOp, names: Sequence[str], inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The inputs in their types. Raises UserError for another number, shape or type."""
    arguments = function.body.block.args
    if len(inputs) != len(arguments):
        raise UserError(f"the network has {len(arguments)} inputs ({', '.join(names)}); found {len(inputs)}")
    found: list[Array] = []
    for name, argument, array in zip(names, arguments, inputs, strict=True):
        shape = cast(Tensor, argument.type).get_shape()
        if array.shape != shape:
            raise UserError(f"input {name} has shape {list(array.shape)}; needed {list(shape)}")
        found.append(typed_input(name, argument, array))
    return tuple(found)


def typed_input(name: str, argument: SSAValue, array: Array) -> Array:
    """The array in the argument's type. Raises UserError where it does not fit or is not finite."""
    wanted = np.dtype(DTYPES[kind_of(argument)])
    if not np.can_cast(array.dtype, wanted, "same_kind") and array.dtype.kind != "b":
        raise UserError(f"input {name} has elements of type {array.dtype}; needed {wanted}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"input {name} has values that are not finite; needed finite numbers")
    # Numbers of no axis keep none.
    return np.ascontiguousarray(array, wanted).reshape(array.shape)


def _random_inputs(function: func.FuncOp, seed: int) -> list[Array]:
    """Standard normal floats, small integers."""
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    for argument in function.body.block.args:
        shape, wanted = cast(Tensor, argument.type).get_shape(), np.dtype(DTYPES[kind_of(argument)])
        array = rng.standard_normal(shape) if wanted.kind == "f" else rng.integers(0, 2, shape)
        found.append(array.astype(wanted))
    return found


def compile_network(
    source: Any,
    *,
    target: str | AnyTarget = "scalesim-ws16",
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    dtype: str | None = None,
    seed: int = 0,
    effort: int = 1,
    plan: str = "auto",
    name: str | None = None,
    confirm: bool = True,
    calibrate: Mapping[str, Array] | None = None,
    percentile: float = 100.0,
    labelled: Mapping[str, Array] | None = None,
    scales: str = "auto",
    masks: Mapping[str, str | Array] | None = None,
    propagate: bool = True,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> NetworkArtifact:
    """Compile a whole network.

    source: the path of an .onnx or .pt2 file, a module of the `nn` dialect (which is not changed), or a model
    of torch: an ExportedProgram, or a Module, which is exported for the inputs, tensors or arrays. batch,
    dims: extents the model leaves open. inputs: to check with, by name or in order; by default those of the
    calibration, or random ones. dtype: the input type of products; by default i8 for networks that are
    quantised or calibrated, where the target has it, otherwise its most exact float. seed, effort, plan,
    confirm: as for `sparsecc.compile`, for every product. calibrate: samples of the inputs by name,
    [samples, ...], by whose ranges a network of floats is quantised, and "labels", the right classes.
    percentile: of each value's elements that its range holds. labelled: such samples to measure accuracy on,
    those of `calibrate` by default. scales: of weights, as for `nn-quantize`. masks: of pruning, by layer
    (`sparsecc.masks`). propagate: carry zeros and constants across layers first (`sparse-propagate`).
    engine: what compiles the products, of the target and the type of products; one of its own by default.
    Raises UserError, which names the node that cannot be compiled.
    """
    found_target = load_target(target) if isinstance(target, str) else target
    engine_for(found_target, target)
    progress("reading the network")
    module, read_name = read_network(source, batch=batch, dims=dims, inputs=inputs)
    if batch is not None:
        check_batch(module, batch, source if isinstance(source, str | os.PathLike) else read_name)
    if masks:
        module = masked(module, masks)
    name = name or read_name
    function = _main(module)
    names = input_names = _names(function, "input_names", len(function.body.block.args))
    check_sizes(function, names)
    check_weights(function)
    kind = product_type(found_target, dtype, function, calibrate is not None)
    engine = engine_for(found_target.with_type(kind), target) if engine is None else engine
    chosen_scales = engine.scales if scales == "auto" else scales
    read = module
    propagation: Propagation | None = None
    if propagate:
        progress(SparsePropagatePass.name)
        propagation = propagated(module)
        module = propagation.module if propagation.changed else module
        function = _main(module)
    samples: Samples | None = None
    before: Array | None = None
    if calibrate is None and percentile != 100.0:
        raise UserError("a percentile is of ranges that a calibration finds; give samples to calibrate by")
    if calibrate is not None:
        progress("calibrating")
        module = module.clone()
        function = _main(module)
        by, samples, before = record(function, names, calibrate, labelled, percentile)
        inputs = next(by.batches())[0] if inputs is None else inputs
    elif labelled is not None:
        samples = samples_of(function, names, labelled)
    for argument, label in zip(function.body.block.args, names, strict=True):
        if HOST_TYPES.get(str(cast(Tensor, argument.type).element_type)) not in DESCR:
            raise UserError(
                f"input {label} is {argument.type}; networks take {', '.join(DESCR)}: cast it to "
                "f32 in the model"
            )
    given = checked_inputs(function, names, _given(inputs, function, names, seed))
    if propagation is not None and propagation.changed:
        check_propagation(propagation, given)

    def chosen_operators(module: ModuleOp) -> list[Stage]:
        with named_target(target) as named:
            passes = integer_passes(calibrate is not None, chosen_scales) if kind == "i8" else []
            passes.append(ConvertNnToHostPass(target=named, dtype=kind))
            passes += engine.passes()
            return run_passes(module, passes, lambda stage: stage.module.verify(), progress)

    stages = chosen_operators(module)
    lowered, calls = stages[-1].module, product_calls(stages[-1].module)
    options = Options(seed, effort, plan, confirm)

    def product_of(call: func.CallOp, lowered: ModuleOp) -> Product:
        weight, n = weight_of(lowered, call), cast(Tensor, call.results[0].type).get_shape()[1]
        pattern = weight.pattern
        values = weight.data if kind == "i8" else weight.data.astype(np.float32)
        matrix = make_csr(values, pattern.indices, pattern.indptr, weight.shape)
        return Product(name_of(call), matrix, n, alone(lowered, call))

    def compiled(plan: str) -> tuple[Layer, ...]:
        layers: list[Layer] = []
        found: dict[str, Layer] = {}
        for i, call in enumerate(calls):

            def tell(text: str, prefix: str = f"{name_of(call)} ({i + 1} of {len(calls)}): ") -> None:
                progress(prefix + text)

            # Steps of a recurrent layer call one function.
            symbol = call.callee.string_value()
            if symbol not in found:
                found[symbol] = engine.compile(product_of(call, lowered), replace(options, plan=plan), tell)
            layers.append(found[symbol])
        return tuple(layers)

    layers, before_orders = compiled(plan), module
    orders: Orders | None = None
    if propagation is not None and plan == "auto":
        progress(SparseReorderPass.name)
        orders = find_orders(function.body.block, matrices(calls, lowered, layers), engine)
    if orders is not None and propagation is not None:
        module = ordered(module, orders)
        function = _main(module)
        check_propagation(replace(propagation, before=before_orders, module=module), given)
        stages = chosen_operators(module)
        lowered, calls = stages[-1].module, product_calls(stages[-1].module)
        layers = tuple(
            engine.carried(product_of(call, lowered), layer, orders.moves[layer.name], options, progress)
            if layer.name in orders.moves
            else layer
            for call, layer in zip(calls, layers, strict=True)
        )
    if before_orders is not read and propagation is not None:
        first = [Stage("input", read), Stage(SparsePropagatePass.name, propagation.module)]
        stages = [*first, *([Stage(SparseReorderPass.name, module)] if orders else []), *stages[1:]]
    elif orders is not None:
        stages = [Stage("input", read), Stage(SparseReorderPass.name, module), *stages[1:]]
    names_of = [s.name for s in stages]
    chosen = stages[names_of.index(ConvertNnToHostPass.name) - 1].module
    accuracy: Accuracy | None = None
    if samples is not None:
        progress("measuring accuracy")
        # Another order of rows is another order of sums.
        if before is None or orders is not None:
            before = outputs_of(_main(module), samples)
        accuracy = compare(before, outputs_of(_main(chosen), samples), samples.labels)
    main = _main(lowered)

    def layers_before(names: Sequence[str]) -> dict[str, Layer]:
        progress("products without sparse-propagate")
        whole = read
        if calibrate is not None:
            whole = read.clone()
            record(_main(whole), input_names, calibrate, labelled, percentile)
        module = chosen_operators(whole)[-1].module
        return {
            name_of(call): engine.compile(product_of(call, module), options, progress)
            for call in product_calls(module)
            if name_of(call) in names
        }

    return NetworkArtifact(
        name,
        engine,
        tuple(stages),
        layers,
        given,
        NetworkCheck(chosen, lowered, main, given, kind == "i8", progress),
        plan_storage(main),
        accuracy,
        progress,
        lambda: compiled("dense"),
        propagation,
        layers_before,
        [] if orders is None else orders.gains,
    )


def product_calls(module: ModuleOp) -> list[func.CallOp]:
    """The calls of products in a network of calls, in order."""
    return [op for op in steps(_main(module)) if isinstance(op, func.CallOp)]


def alone(module: ModuleOp, call: func.CallOp) -> ModuleOp:
    """The function that is called, as the main function of a module of its own."""
    function = SymbolTable.lookup_symbol(module, call.callee)
    assert isinstance(function, func.FuncOp)
    found = function.clone()
    found.properties["sym_name"] = StringAttr("main")
    found.properties["sym_visibility"] = StringAttr("public")
    return ModuleOp([found])


def _given(
    inputs: Mapping[str, Any] | Sequence[Any] | None,
    function: func.FuncOp,
    names: Sequence[str],
    seed: int,
) -> Sequence[Array]:
    if inputs is None:
        return _random_inputs(function, seed)
    if not isinstance(inputs, Mapping):
        return [np.asarray(x.detach() if hasattr(x, "detach") else x) for x in inputs]
    if set(inputs) != set(names):
        raise UserError(f"the network has the inputs {', '.join(names)}; found {', '.join(inputs) or 'none'}")
    return [np.asarray(inputs[n]) for n in names]
