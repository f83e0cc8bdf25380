"""
The two services, assembled from the parts.
"""
