"""Floor 0: the words of the language, on jax and equinox alone."""
