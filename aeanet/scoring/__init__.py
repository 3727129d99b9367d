"""How good a result is, and how sure that is."""
