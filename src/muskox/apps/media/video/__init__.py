"""Videos: looked at before anything is decoded, encoded in processes that end with their job, checked before shown.

Where files are kept, and how jobs are added, is not decided here.
"""
