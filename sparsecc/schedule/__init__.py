"""Schedules of covers on tensor units: geometry, cost, choice and tables. Plain numpy, knows no IR."""

from sparsecc.schedule.choose import Choice, choose

__all__ = ["Choice", "choose"]
