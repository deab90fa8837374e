"""Numpy interpreters: what a module computes, at each level of the IR."""
