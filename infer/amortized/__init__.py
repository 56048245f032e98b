"""Models of rows with a posterior for each: the variational autoencoder and its relatives."""
