"""The applications that ship with Muskox, built on its public names only.

Nothing in the rest of the package knows of them.
"""
