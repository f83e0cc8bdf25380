"""
Files from one party straight to another: docs/transfer.md.
"""
