"""
What attaches channels to the outside: forwards, targets and the policy that allows them.
"""
