"""The run loop and what surrounds it: progress, checkpoints, layout on devices."""
