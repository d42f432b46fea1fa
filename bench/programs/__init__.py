"""The programs that are measured. Each runs in a process of its own and gives its figures as JSON."""
