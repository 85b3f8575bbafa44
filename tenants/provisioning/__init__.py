"""Runs: recorded executions of named steps that survive the death of whoever executes them."""
