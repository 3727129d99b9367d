"""How often the warnings of a restoration come, and how they are learned."""
