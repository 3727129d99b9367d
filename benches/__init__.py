"""Benchmarks: `python -m benches` runs them, prints ratios within the run and records a JSON."""
