"""Products of integers are exact, whatever type of floats they are multiplied in."""

import numpy as np
import pytest

from sparsecc.nn.arithmetic import matmul, weight_product

# Sums of so many products of 127 and 128 pass 2**24, up to which f32 has every integer.
FIRST_ABOVE = 1 + (1 << 24) // (127 * 128)


@pytest.mark.parametrize("k", [1, FIRST_ABOVE - 1, FIRST_ABOVE, 4 * FIRST_ABOVE + 1])
@pytest.mark.parametrize(("weights", "inputs"), [("int8", "int8"), ("int8", "uint8"), ("int16", "int8")])
def test_products_of_extremes_are_exact(k: int, weights: str, inputs: str) -> None:
    w, x = (
        np.full(shape, np.iinfo(dtype).max, dtype) for shape, dtype in (((3, k), weights), ((k, 2), inputs))
    )
    w[1] = np.iinfo(weights).min
    x[:, 1] = np.iinfo(inputs).min
    w[2, ::2] -= 1
    x[::3, 0] -= 1
    wanted = w.astype(object) @ x.astype(object)
    assert (weight_product(w, x) == wanted).all()
    assert (matmul(w, x) == wanted).all()


def test_what_is_empty_is_zero() -> None:
    assert (weight_product(np.zeros((2, 0), np.int8), np.zeros((0, 3), np.int8)) == np.zeros((2, 3))).all()
    assert matmul(np.zeros((0, 4), np.int8), np.zeros((4, 3), np.int8)).shape == (0, 3)
