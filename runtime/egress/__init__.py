"""The host's end of egress: a filtering proxy (squid), and the gateway that carries each sandbox's connections to it.

Plain Python, no Django. `manage.py egress` runs it.
"""
