"""
Carriers move packets between two hosts; the driver joins them to a session.
"""
