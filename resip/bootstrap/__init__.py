"""
From an API key to a session: certificates, keys, invitations and the HTTPS session API.
"""
