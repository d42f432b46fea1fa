"""Other systems at the same work, each in an environment of its own, beside Muskox.

`python -m bench compare` makes the environments, runs all sides interleaved and reports. Nothing of the
other systems is part of this repository but the short programs in `sides` that use them.
"""
