"""
The classic dialect (packet type 0): the published Resilient IP format.
"""
