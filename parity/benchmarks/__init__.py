"""Speed and memory, ours beside others'."""
