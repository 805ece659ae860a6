"""A small typed client for what ADBC does not say: pages, uploads with progress, actions."""
