"""Implementations of the scan behind :mod:`recdrop.recurrence`."""
