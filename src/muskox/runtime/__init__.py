"""Makes jobs run: claims, runs and settles. Empty on purpose, so that a producer loads none of it."""
