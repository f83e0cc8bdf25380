"""
The resip command.
"""
