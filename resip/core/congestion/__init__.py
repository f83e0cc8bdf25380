"""
Congestion controllers: how much a session may have in flight, and how fast.
"""
