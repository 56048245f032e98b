"""Gaussian variational inference: fits of a mean and a whole covariance, mostly without step sizes."""
