"""
Tests of :mod:`resip.direct`.
"""
