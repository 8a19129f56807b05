"""What each detail of a port costs in metrics, with intervals."""
