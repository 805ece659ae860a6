"""Many buckets: opening, creating, renaming, moving between them, and knowing which can be reached."""
