"""Tables that others write, and that are attached to be read."""
