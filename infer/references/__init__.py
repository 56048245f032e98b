"""The works that the library stands on, and who names them."""
