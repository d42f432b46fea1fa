"""One program per system: how it adds jobs and how it runs them. Each is a script for the system's own interpreter.

A side imports its system, `side.py` and the standard library, nothing of ours; so this package is never imported.
"""
