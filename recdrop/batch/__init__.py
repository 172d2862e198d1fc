"""Notebooks in batch: points of a grid, executed by papermill on Dask's workers, resumable.

What the workers import does without torch; a notebook's kernel loads it where it needs it.
"""
