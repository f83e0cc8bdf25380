"""
Resilient IP: a tunnel whose connections survive what kills TCP.
"""

__version__ = "0.1.0.dev0"
