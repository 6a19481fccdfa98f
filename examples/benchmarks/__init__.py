"""Benchmarks: ``python -m examples.benchmarks TASK``, at the root of the clone."""
