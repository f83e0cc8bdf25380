"""
Benchmarks: commands that measure and print a table.
"""
