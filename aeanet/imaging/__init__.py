"""Functions on images that need no network: enlargement, flips, precision, and metrics."""
