"""The benchmark: how fast Muskox is beside what its parts cost at best, and beside others.

Run as `python -m bench`. It measures through the public API only and is no part
of the installed package.
"""
