"""
The modern dialect (packet type 1); docs/protocol.md is its contract.
"""
