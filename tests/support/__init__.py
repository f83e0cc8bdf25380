"""
What tests share: simulated networks, builders of hostile bytes.
"""
