"""Gaussian variational inference: means and whole covariances, mostly without step sizes."""
