"""
Tests of the package of the same name.
"""

from hypothesis import settings

# Two busy cores must not fail a property that holds.
settings.register_profile("core", deadline=None)
settings.load_profile("core")
