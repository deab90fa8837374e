"""Networks in bytes: when products are multiplied so, the passes that make them so, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.ir import Operation
from xdsl.passes import ModulePass

from sparsecc.calibration import Samples, joined, record_ranges, samples_of
from sparsecc.dialects.nn_products import ConvIntegerOp, LinearIntegerOp
from sparsecc.dialects.nn_quantized import QuantizeLinearOp, RequantizeOp
from sparsecc.errors import UserError
from sparsecc.network.lower import FLOATS, types_of
from sparsecc.passes.nn_fold_bias import NnFoldBiasPass
from sparsecc.passes.nn_fold_quantization import NnFoldQuantizationPass
from sparsecc.passes.nn_quantize import SCALES, NnQuantizePass
from sparsecc.target import AnyTarget, CpuTarget

Array = NDArray[Any]

_QUANTISED = (ConvIntegerOp, LinearIntegerOp, QuantizeLinearOp, RequantizeOp)


def is_quantised(network: Operation) -> bool:
    """Whether a network has operators of bytes already."""
    return any(isinstance(op, _QUANTISED) for op in network.walk())


def product_type(target: AnyTarget, dtype: str | None, function: func.FuncOp, calibrated: bool) -> str:
    """The input type that products of a network are multiplied in: `dtype`, or what suits network and target.

    Raises UserError for types that the target does not have, and for floats without a calibration on targets
    of integers.
    """
    types = types_of(target)
    if isinstance(target, CpuTarget) and not target.missing:
        # A CPU of a kind need not have all types of the kind.
        types = [t for t in types if t == dtype or not target.with_type(t).missing]
    floats = [t for t in FLOATS if t in types]
    quantised = is_quantised(function)
    if dtype is not None:
        target.with_type(dtype)
        if dtype not in (*FLOATS, "i8"):
            raise UserError(f"networks are multiplied in {', '.join(FLOATS)} or i8; found the type {dtype}")
        if calibrated and dtype != "i8":
            raise UserError(f"a calibration is for products in i8; found the type {dtype}")
    if calibrated and "i8" not in types:
        raise UserError(
            f"target {target.name} multiplies {', '.join(types)}; a calibration is for targets that have i8"
        )
    found = dtype or ("i8" if "i8" in types and (calibrated or quantised or not floats) else "")
    if found == "i8" and not quantised and not calibrated:
        raise UserError(
            f"the network is of floats, and target {target.name} would multiply i8: give inputs to quantise "
            "it by with --calibrate FILE.npz (calibrate=), or use a target that multiplies f32, f16 or bf16"
        )
    if found or floats:
        return found or floats[0]
    raise UserError(f"target {target.name} multiplies {', '.join(types)}; networks need f32, f16, bf16 or i8")


def integer_passes(calibrated: bool, scales: str) -> list[ModulePass]:
    """From a network of floats with recorded ranges, or one in QDQ form, to products of integers."""
    if scales not in SCALES:
        raise UserError(f"scales {scales!r} are not one of {', '.join(SCALES)}", exit_code=2)
    quantize = [NnQuantizePass(scales=scales)] if calibrated else []
    return [NnFoldBiasPass(), *quantize, NnFoldQuantizationPass()]


def calibrate(
    function: func.FuncOp,
    names: Sequence[str],
    given: Mapping[str, Array],
    labelled: Mapping[str, Array] | None,
    percentile: float = 100.0,
) -> tuple[Samples, Samples, Array | None]:
    """Record the ranges that inputs give.

    Returns them, those that accuracy is measured on, and the first output for the latter where they are the
    same.
    """
    samples = samples_of(function, names, given)
    outputs = record_ranges(function, samples, percentile)
    if labelled is None:
        return samples, samples, joined(samples, outputs)
    return samples, samples_of(function, names, labelled), None
