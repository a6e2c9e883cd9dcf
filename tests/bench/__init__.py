"""Benchmarks the project carries: `python -m tests.bench NAME`. They speak in JSON lines.

Never timed in CI. Each runs side by side in one run with what it is compared to, says how far two
runs of the same thing lay apart (A/A), and checks its own result before it speaks.
"""
