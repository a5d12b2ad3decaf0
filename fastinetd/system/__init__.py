"""What the operating system gives: descriptors, processes, time."""
