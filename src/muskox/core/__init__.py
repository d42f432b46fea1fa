"""What a job is and what may happen to it; plain values, no I/O, no clock, no dice."""
