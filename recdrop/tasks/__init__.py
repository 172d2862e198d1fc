"""One file per benchmark: its batches, model, loss and metric.

A task knows nothing of how a study is organised: it trains and evaluates a *table*, any object that
calls R networks at once (:class:`recdrop.study.replicas.Replicas`).
"""
