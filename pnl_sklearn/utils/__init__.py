"""Utilities: processes, threads, pipelines."""
