"""LUFFY as an extension of veRL: adapters from veRL's batches and processes to the pure library ``luffy``."""
