"""One operator to compile: a sparse matrix in a target's type, inputs, and what the result must be."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.codegen.folder import Check
from sparsecc.cover.laws import Pattern
from sparsecc.epilogue import Epilogue
from sparsecc.errors import UserError
from sparsecc.importers import Matrix, load_matrix
from sparsecc.importers.matrix import (
    Csr,
    ValueKind,
    build_from_dense,
    build_matrix,
    check_shape,
    check_values_dtype,
    make_csr,
    seeded_values,
)
from sparsecc.quantize import FloatKind, quantize_rows
from sparsecc.quantize import cast as cast_values
from sparsecc.scales import Scales, quantize_by, quantize_input
from sparsecc.target import AnyTarget, Target
from sparsecc.target.numbers import DTYPES, round_bf16

Array = NDArray[Any]
Inputs = tuple[Array, ...]

# Half the distance between 1 and the next float32: the largest relative error of one rounding.
UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True, eq=False)
class Operator(ABC):
    """A product with a constant sparse matrix, in the target's input type."""

    name: str
    weight: Csr
    """The sparse matrix. Values in the input type (bf16 as the f32 it equals)."""
    in_type: str
    scales: NDArray[np.float32] | None
    """int8 only: what one step of each row is worth in the original matrix, [M]; None where it was int8."""
    zeroed: int
    """Nonzeros that the conversion to the input type made 0."""
    stored_zeros: int
    """Zeros that the file stored as if they were nonzeros."""
    pattern_only: bool
    """The values are drawn at random: the file has none."""

    op: ClassVar[str]
    """What the command line calls the operation."""

    @property
    def pattern(self) -> Pattern:
        """Where the nonzeros stand."""
        w = self.weight
        return Pattern(*w.shape, np.asarray(w.indptr, np.int64), np.asarray(w.indices, np.int32))

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(M, N, K)."""

    @property
    @abstractmethod
    def inputs(self) -> dict[str, tuple[str, tuple[int, int]]]:
        """Of each input by name: what users call its extents, and these."""

    @property
    @abstractmethod
    def formula(self) -> str:
        """The product with its extents."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Multiply-accumulates that each nonzero needs."""

    @abstractmethod
    def reference(self, inputs: Inputs) -> Check:
        """The exact product, and for floats how far a result may be from it."""

    def random_inputs(self, seed: int) -> Inputs:
        """Inputs in the input type: int8 of full range, or standard normal."""
        rng = np.random.default_rng(seed)

        def random(shape: tuple[int, int]) -> Array:
            if self.in_type == "i8":
                return rng.integers(-128, 128, shape).astype(np.int8)
            x = rng.standard_normal(shape).astype(np.float32)
            return round_bf16(x) if self.in_type == "bf16" else x.astype(DTYPES[self.in_type])

        return tuple(random(shape) for _, shape in self.inputs.values())

    def checked_inputs(self, inputs: Inputs) -> Inputs:
        """The inputs as the operator takes them, row-major.

        Raises UserError for another number or shape, a type that does not fit, NaN or inf.
        """
        if len(inputs) != len(self.inputs):
            needed = ", ".join(f"{extents} = {list(shape)}" for extents, shape in self.inputs.values())
            raise UserError(
                f"operator {self.name} takes {len(self.inputs)} inputs: {needed}; found {len(inputs)}"
            )
        return tuple(
            self._checked(x, extents, shape)
            for x, (extents, shape) in zip(inputs, self.inputs.values(), strict=True)
        )

    def _checked(self, x: Array, extents: str, wanted: tuple[int, int]) -> Array:
        if x.shape != wanted:
            raise UserError(
                f"the input has shape {list(x.shape)}; operator {self.name} takes {extents} = {list(wanted)}"
            )
        if x.dtype.kind not in "fiub":
            raise UserError(f"the input has element type {x.dtype}; needed numbers that fit {self.in_type}")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0]
            raise UserError(
                f"the input has {x[row, column]} at row {row}, column {column}; needed finite numbers"
            )
        if self.in_type == "i8":
            if (x != np.rint(x)).any() or (x < -128).any() or (x > 127).any():
                raise UserError(
                    f"the input has element type {x.dtype} and values that are not integers in -128..127; "
                    "this target takes int8: quantise the input first"
                )
            return np.ascontiguousarray(x, np.int8)
        if self.in_type == "bf16":
            return np.ascontiguousarray(round_bf16(x.astype(np.float32)))
        with np.errstate(over="ignore"):
            converted = x.astype(DTYPES[self.in_type])
        if not np.isfinite(converted).all():
            raise UserError(
                f"the input has values too large for {self.in_type}; scale it or use a wider type"
            )
        return np.ascontiguousarray(converted)


@dataclass(frozen=True, eq=False)
class Spmm(Operator):
    """C[M,N] = W[M,K] X[K,N]."""

    n: int
    epilogue: Epilogue | None = None
    """What is fused to the product."""
    input_scale: float | None = None
    """int8 only: what one step of X is worth; inputs that are floats are brought to such steps."""

    op: ClassVar = "spmm"

    @property
    def shape(self) -> tuple[int, int, int]:
        m, k = self.weight.shape
        return m, self.n, k

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, int]]]:
        m, n, k = self.shape
        given = {"x": ("[K, N]", (k, n))}
        added = self.epilogue is not None and self.epilogue.residual
        return given | {"residual": ("[M, N]", (m, n))} if added else given

    @property
    def formula(self) -> str:
        m, n, k = self.shape
        return f"C[{m}, {n}] = W[{m}, {k}] X[{k}, {n}]"

    @property
    def depth(self) -> int:
        return self.n

    def checked_inputs(self, inputs: Inputs) -> Inputs:
        # What is not finite is left for the check, which says where.
        if self.input_scale is not None and inputs[0].dtype.kind == "f" and np.isfinite(inputs[0]).all():
            inputs = (quantize_input(inputs[0], self.input_scale), *inputs[1:])
        return super().checked_inputs(inputs)

    def reference(self, inputs: Inputs) -> Check:
        """Integers wrap to 32 bits. A float may be off by gamma_K (|W| |X|), element by element."""
        x, *others = inputs
        dense_type = np.int64 if self.in_type == "i8" else np.float64
        weight = _with_values(self.weight, self.weight.data.astype(dense_type))
        product = weight @ x.astype(dense_type)
        if self.in_type == "i8":
            sums = product.astype(np.int32)
            result = sums if self.epilogue is None else self.epilogue.apply(sums)
            return Check({"x": x}, result, np.zeros((1, 1)), None)
        magnitude = _with_values(self.weight, np.abs(self.weight.data.astype(np.float64)))
        bound = _gamma(self.shape[2]) * (magnitude @ np.abs(x.astype(np.float64)))
        if self.epilogue is None:
            return Check({"x": x}, product, bound, None)
        if (bias := self.epilogue.bias) is not None:
            # One more term of the sum.
            column = bias.astype(np.float64)[:, None]
            product = product + column
            terms = _gamma(self.shape[2] + 1)
            bound = terms * (magnitude @ np.abs(x.astype(np.float64)) + np.abs(column))
        given = {"x": x}
        if others:
            given["residual"] = residual = others[0]
            product = product + residual
            bound = bound + _gamma(self.shape[2] + 2) * (np.abs(product) + np.abs(residual))
        if (activation := self.epilogue.activation) is not None:
            from sparsecc.network.bounds import UNIT, of_activation

            rounded = product.astype(np.float32)
            found = activation.apply(rounded)
            bound = of_activation(activation, rounded, found, bound + UNIT * np.abs(product))
            return Check(given, found.astype(np.float64), bound.astype(np.float64), None)
        return Check(given, np.clip(product, self.epilogue.low, self.epilogue.high), bound, None)


@dataclass(frozen=True, eq=False)
class Sddmm(Operator):
    """C[M,N] = A[M,K] B[K,N] at the points of a mask; `weight` holds int8 ones there."""

    k: int

    op: ClassVar = "sddmm"

    @property
    def shape(self) -> tuple[int, int, int]:
        m, n = self.weight.shape
        return m, n, self.k

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, int]]]:
        m, n, k = self.shape
        return {"a": ("A [M, K]", (m, k)), "b": ("B [K, N]", (k, n))}

    @property
    def formula(self) -> str:
        m, n, k = self.shape
        return f"C[{m}, {n}] = mask * (A[{m}, {k}] B[{k}, {n}])"

    @property
    def depth(self) -> int:
        return self.k

    def reference(self, inputs: Inputs) -> Check:
        """As for an SpMM at the points of the mask, which are all that is compared; 0 elsewhere."""
        a, b = inputs
        kept = self.weight.toarray() != 0
        points = np.flatnonzero(kept)
        given = {"a": a, "b": b}
        if self.in_type == "i8":
            # Exact in f64 up to far longer sums than int32 holds; what is beyond int32 wraps around.
            product = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64).astype(np.int32)
            return Check(given, np.where(kept, product, 0).astype(np.int32), np.zeros((1, 1)), points)
        wide = a.astype(np.float64), b.astype(np.float64)
        bound = _gamma(self.k) * (np.abs(wide[0]) @ np.abs(wide[1]))
        return Check(given, np.where(kept, wide[0] @ wide[1], 0.0), np.where(kept, bound, 0.0), points)


def _gamma(k: int) -> float:
    """gamma_K = K u / (1 - K u), the forward error bound of any order of summation.

    (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.)
    """
    k = max(1, k)
    return k * UNIT_ROUNDOFF / (1 - k * UNIT_ROUNDOFF)


def _with_values(csr: Csr, values: Array) -> Csr:
    return make_csr(values, csr.indices, csr.indptr, csr.shape)


def operator_of(
    source: object,
    n: int,
    target: AnyTarget,
    dtype: str | None = None,
    seed: int = 0,
    name: str | None = None,
    scales: Scales | None = None,
) -> Spmm:
    """The SpMM of a file, a Matrix, a scipy sparse matrix or a numpy array [M, K].

    Values are brought to the target's input type: int8 by symmetric scales per row (on tensor units but for
    what is int8 already), or by those given; floats by rounding. Files without values get seeded ones. Raises
    UserError for what cannot be read, held or converted.
    """
    if n < 1:
        raise UserError(f"n is {n}; an operator needs at least 1 position", exit_code=2)
    matrix = _matrix(source, name)
    in_type = dtype or target.in_type
    target.with_type(in_type)
    if matrix.pattern_only:
        matrix = seeded_values(matrix, cast(ValueKind, in_type), seed)
    asked = scales or Scales()
    steps: NDArray[np.float32] | None = None
    if in_type == "i8" and asked.weight is not None:
        weight, zeroed = quantize_by(matrix.csr, asked.weight)
        steps = np.full(matrix.csr.shape[0], asked.weight, np.float32)
    elif in_type == "i8" and isinstance(target, Target) and matrix.csr.data.dtype == np.int8:
        # Symmetric or not: -128, too, is a number that the unit multiplies.
        weight, zeroed = matrix.csr, 0
    elif in_type == "i8":
        weight, found, zeroed = quantize_rows(matrix.csr)
        steps = None if (found == 1).all() else found
    else:
        weight, zeroed = cast_values(matrix.csr, cast(FloatKind, in_type))
    name = name or matrix.name
    to_int8 = asked.requantisation(steps, weight.shape[0])
    epilogue = None if to_int8 is None else Epilogue("i8", scale=to_int8)
    return Spmm(
        name,
        weight,
        in_type,
        steps,
        zeroed,
        matrix.stored_zeros,
        matrix.pattern_only,
        n,
        epilogue,
        asked.input,
    )


def masked_operator_of(
    source: object, k: int, target: Target, dtype: str | None = None, name: str | None = None
) -> Sddmm:
    """The SDDMM whose mask [M, N] is the pattern of what `operator_of` takes; values do not matter.

    Raises UserError for what cannot be read.
    """
    if k < 1:
        raise UserError(f"k is {k}; the inner dimension needs at least 1", exit_code=2)
    matrix = _matrix(source, name)
    in_type = dtype or target.in_type
    target.with_type(in_type)
    mask = _with_values(matrix.csr, np.ones(matrix.csr.nnz, np.int8))
    return Sddmm(name or matrix.name, mask, in_type, None, 0, matrix.stored_zeros, False, k)


def _matrix(source: object, name: str | None) -> Matrix:
    match source:
        case Matrix():
            return replace(source, name=name or source.name)
        case str() | os.PathLike():
            return load_matrix(os.fspath(cast("str | os.PathLike[str]", source)))
        case np.ndarray():
            return build_from_dense(cast(Array, source), source="the array", name=name or "matrix")
        case _ if hasattr(source, "tocoo"):
            coo = cast(Any, source).tocoo()
            rows, columns = (np.asarray(c, np.int64) for c in (coo.row, coo.col))
            values = np.asarray(coo.data)
            check_values_dtype(values.dtype, "the matrix")
            shape = check_shape(coo.shape, "the matrix")
            return build_matrix(shape, rows, columns, values, source="the matrix", name=name or "matrix")
        case _:
            raise UserError(
                f"cannot take a {type(source).__name__} as a matrix; give a path, a numpy array, or a scipy "
                "sparse matrix"
            )
