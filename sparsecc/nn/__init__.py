"""Tensor operators of networks in plain numpy: shapes and values. Knows no IR."""
