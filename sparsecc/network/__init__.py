"""Whole networks: layouts, the choice of operators, the memory plan, error bounds."""
