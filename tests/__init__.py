"""
The tests of resip; folders mirror the package.
"""

from hypothesis import HealthCheck, settings

# Busy cores must not fail a property that holds: no test has a deadline, none is too slow.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
