"""
The protocol itself, without I/O: no sockets, no clock, no dice. Twisted never enters here.
"""
