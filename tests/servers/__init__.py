"""Real servers for tests: each starts on a free port with its data in a temporary folder, and is stopped at the end."""
