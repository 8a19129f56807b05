"""Training: targets, losses, schedule, and the step that they make."""
