"""SQL taken apart by its tokens: what a statement is, what it changes, and the query that computes the change."""
