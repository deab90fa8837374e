"""Runs a network of the `nn` dialect on samples: ranges of its values, and how right its answers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, f32
from xdsl.ir import Attribute, SSAValue

from sparsecc.dialects.nn_base import NnOp, element_of, shape_of
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.elements import stored
from sparsecc.errors import UserError
from sparsecc.interpreters.nn import evaluate

Array = NDArray[Any]
Range = tuple[float, float]

# Discardable attributes: of an operator the range of its result, or those of all where it has several; of a
# function those of its arguments.
RANGE, INPUT_RANGES = "range", "input_ranges"
# Of histograms for percentiles, as many as onnxruntime's quantiser takes.
_BINS = 2048


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a network, and what is the right class of each."""

    inputs: tuple[Array, ...]
    """By argument, [samples, ...], in the arguments' types."""
    batch: int | None
    """Of the first axes of all arguments; None where a sample is all of each argument."""
    labels: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        return len(self.inputs[0])

    def batches(self) -> Iterator[tuple[tuple[Array, ...], int]]:
        """Inputs of the network, one batch after the other, and how many are samples; the rest are copies."""
        if self.batch is None:
            for i in range(self.count):
                yield tuple(np.asarray(x[i]) for x in self.inputs), 1
            return
        for first in range(0, self.count, self.batch):
            held = min(self.batch, self.count - first)
            places = np.minimum(first + np.arange(self.batch), self.count - 1)
            yield tuple(x[places] for x in self.inputs), held


def samples_of(
    function: func.FuncOp, names: Sequence[str], given: Mapping[str, Array], labels: Array | None = None
) -> Samples:
    """Samples by the names of inputs. Raises UserError for what does not fit the network.

    An array "labels" that is no input holds the classes. A network of one input takes the one other array,
    whatever it is called. The axes of a sample may be one axis or several, if the elements are as many. Where
    inputs have no common batch as their first axis, as initial states of recurrent layers have not, a sample
    is a whole input: arrays are [samples, ...] of those, or one without the axis of samples.
    """
    arrays = dict(given)
    if labels is None and "labels" in arrays and "labels" not in names:
        labels = arrays.pop("labels")
    if len(names) == 1 and len(arrays) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    if set(arrays) != set(names):
        found = ", ".join(arrays) or "none"
        raise UserError(f"calibration needs the inputs {', '.join(names)} (and labels); found {found}")
    shapes = {name: shape_of(a) for name, a in zip(names, function.body.block.args, strict=True)}
    batches = {shape[0] if shape else 0 for shape in shapes.values()}
    whole = len(batches) != 1 or 0 in batches
    if whole and all(arrays[name].shape == shape for name, shape in shapes.items()):
        arrays = {name: array[None] for name, array in arrays.items()}
    counts = {len(a) if a.ndim else 0 for a in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise UserError(f"calibration needs as many samples of every input; found {sorted(counts)}")
    held = [
        _fitting(name, arrays[name], argument, whole)
        for name, argument in zip(names, function.body.block.args, strict=True)
    ]
    (count,) = counts
    if labels is not None and whole:
        raise UserError("labels need a network whose inputs all have the batch as their first axis")
    if labels is not None:
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise UserError(
                f"labels are {labels.dtype} {list(labels.shape)}; needed one integer for each of {count}"
            )
        labels = labels.astype(np.int64)
    return Samples(tuple(held), None if whole else batches.pop(), labels)


def _fitting(name: str, array: Array, argument: SSAValue, whole: bool) -> Array:
    """An input's samples in its shape, without the batch if they are not whole, and type."""
    shape, wanted = (
        shape_of(argument)[0 if whole else 1 :],
        np.dtype(stored(cast(Any, argument.type).element_type)),
    )
    if array[0].size != int(np.prod(shape)):
        raise UserError(f"samples of {name} have shape {list(array.shape[1:])}; needed {list(shape)}")
    if not (
        np.can_cast(array.dtype, wanted, "same_kind") or (array.dtype.kind in "iub" and wanted.kind == "f")
    ):
        raise UserError(f"samples of {name} have elements of type {array.dtype}; needed {wanted}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"samples of {name} hold values that are not finite; needed finite numbers")
    return array.reshape(len(array), *shape).astype(wanted)


def values_of(function: func.FuncOp, inputs: Sequence[Array]) -> tuple[dict[SSAValue, Array], list[Array]]:
    """All values of a function of `nn` operators, and what it returns."""
    block = function.body.block
    values: dict[SSAValue, Array] = dict(zip(block.args, inputs, strict=True))
    for op in block.ops:
        match op:
            case MatrixOp():
                values[op.res] = op.weight.dense()
            case func.ReturnOp():
                return values, [values[o] for o in op.operands]
            case _:
                values.update(zip(op.results, evaluate(op, values), strict=True))
    raise AssertionError("a function ends with func.return")


def outputs_of(function: func.FuncOp, samples: Samples) -> Array:
    """The first output for all samples, [samples, ...]; for each run where it has no axis for the batch."""
    return joined(samples, [values_of(function, inputs)[1][0] for inputs, _ in samples.batches()])


def joined(samples: Samples, outputs: Sequence[Array]) -> Array:
    """The first outputs of all batches as one array, without what is of copies; see `outputs_of`."""
    found: list[Array] = []
    for (_, held), output in zip(samples.batches(), outputs, strict=True):
        if output.ndim and len(output) == samples.batch:
            found.append(output[:held])
        elif samples.labels is None:
            found.append(output[None])
        else:
            raise UserError(
                "the first output has no axis for the batch; accuracy needs one answer per sample"
            )
    return np.concatenate(found)


def record_ranges(function: func.FuncOp, samples: Samples, percentile: float = 100.0) -> list[Array]:
    """Write the least and the largest value that samples give as attributes, of f32 values.

    Returns the first output of each batch.

    percentile: of each value's elements that its range holds; those left out are the outermost, as many at
    each end, to 1/2048 of the range. Below 100 the samples are run twice. Ranges may be infinite, as those of
    masked scores are, which nothing needs in bytes. Raises UserError.
    """
    if not 50.0 < percentile <= 100.0:
        raise UserError(f"percentile {percentile:g}: needed more than 50, and 100 at most", exit_code=2)
    block = function.body.block
    ranges: dict[SSAValue, Range] = {}
    outputs: list[Array] = []
    for inputs, _ in samples.batches():
        values, results = values_of(function, inputs)
        outputs.append(results[0])
        for value, array in values.items():
            if element_of(value) == "f32" and array.size:
                low, high = ranges.get(value, (0.0, 0.0))
                # What is no number stays so.
                ranges[value] = float(np.minimum(low, array.min())), float(np.maximum(high, array.max()))
    if percentile < 100.0:
        ranges = _narrowed(function, samples, ranges, percentile)
    for op in block.ops:
        if isinstance(op, NnOp) and any(r in ranges for r in op.results):
            found = [_attribute(ranges.get(r, (0.0, 0.0))) for r in op.results]
            op.attributes[RANGE] = found[0] if len(found) == 1 else ArrayAttr(found)
    function.attributes[INPUT_RANGES] = ArrayAttr(_attribute(ranges.get(a, (0.0, 0.0))) for a in block.args)
    return outputs


def _narrowed(
    function: func.FuncOp, samples: Samples, ranges: Mapping[SSAValue, Range], percentile: float
) -> dict[SSAValue, Range]:
    """The ranges without the outermost elements: quantiles of a histogram of each value."""
    # What is 0 for all samples has no histogram, and what is not finite has none either.
    wide = {v: found for v, found in ranges.items() if found[0] < found[1] and np.isfinite(found).all()}
    counts = {value: np.zeros(_BINS, np.int64) for value in wide}
    for inputs, held in samples.batches():
        values, _ = values_of(function, inputs)
        for value, (low, high) in wide.items():
            array = values[value]
            # Copies at the end of the last batch do not count twice.
            counted = array[:held] if array.ndim and len(array) == samples.batch else array
            counts[value] += np.histogram(counted.astype(np.float64), _BINS, (low, high))[0]
    found = dict(ranges)
    for value, (low, high) in wide.items():
        share = np.cumsum(counts[value]) / counts[value].sum()
        tail = (100.0 - percentile) / 200.0
        first, last = np.searchsorted(share, [tail, 1 - tail])
        edges = np.linspace(low, high, _BINS + 1)
        # 0 stays: zero points stand for it.
        found[value] = min(0.0, float(edges[first])), max(0.0, float(edges[min(last, _BINS - 1) + 1]))
    return found


def _attribute(found: Range) -> Attribute:
    return DenseArrayBase.from_list(f32, list(found))


def recorded_range(value: SSAValue) -> Range | None:
    """What `record_ranges` wrote for a value."""
    from xdsl.ir import Block

    if isinstance(owner := value.owner, Block):
        function = owner.parent_op()
        found = function.attributes.get(INPUT_RANGES) if function is not None else None
        attribute = found.data[value.index] if isinstance(found, ArrayAttr) else None  # pyright: ignore
    else:
        attribute = owner.attributes.get(RANGE)
        if isinstance(attribute, ArrayAttr):
            attribute = attribute.data[list(owner.results).index(cast(Any, value))]  # pyright: ignore
    if not isinstance(attribute, DenseArrayBase):
        return None
    low, high = cast("DenseArrayBase[Any]", attribute).get_values()
    return float(low), float(high)


@dataclass(frozen=True)
class Accuracy:
    """How right a quantised network is, on samples."""

    samples: int
    before: float | None
    """Share of right answers in f32; None without labels."""
    after: float | None
    agreement: float
    """Share of samples for which both give the same answer: the place of the largest output."""
    largest_difference: float
    """Between outputs before and after."""

    def rows(self) -> list[tuple[str, str]]:
        """For tables."""
        found = [("same answers", f"{self.agreement:.2%} of {self.samples} samples, quantised and before")]
        if self.before is not None and self.after is not None:
            text = f"{self.after:.2%} of {self.samples} samples ({self.before:.2%} before quantisation)"
            found.insert(0, ("accuracy", text))
        return found


def compare(before: Array, after: Array, labels: NDArray[np.int64] | None) -> Accuracy:
    """Outputs [samples, ...] of the network before and after."""
    answers = [np.argmax(y.reshape(len(y), -1), axis=1) for y in (before, after)]
    right = [None if labels is None else float((a == labels).mean()) for a in answers]
    difference = np.abs(before.astype(np.float64) - after.astype(np.float64)).max(initial=0.0)
    agreement = float((answers[0] == answers[1]).mean())
    return Accuracy(len(before), right[0], right[1], agreement, float(difference))
