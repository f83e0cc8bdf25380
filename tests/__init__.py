"""
The tests of resip; folders mirror the package.
"""
