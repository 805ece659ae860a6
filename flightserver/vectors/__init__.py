"""Vector indexes: what they hold, how they are searched, and their life."""
