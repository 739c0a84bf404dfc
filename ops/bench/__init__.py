"""Benchmarks: every figure beside the bare loop, taken in the same run."""
