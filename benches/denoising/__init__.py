"""What a user would pick instead of a network, each with its best strength, on registered pairs."""
