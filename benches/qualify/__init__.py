"""One visit to a GPU: what is right there, and what it takes, in a few minutes."""
