"""The plan of the house as code. It reads the source as text and never imports it."""
