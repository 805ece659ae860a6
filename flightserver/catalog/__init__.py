"""The commit log: entities, updates, snapshots, transactions."""
