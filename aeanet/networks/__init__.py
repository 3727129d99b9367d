"""Networks that turn a grey image into a grey image of its size."""
