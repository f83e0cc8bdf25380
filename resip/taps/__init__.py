"""
What twistd loads: options and service makers, one module a plugin.
"""
