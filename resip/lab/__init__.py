"""
Links made bad on purpose: a link model, a simulated network, an impairing relay.
"""
