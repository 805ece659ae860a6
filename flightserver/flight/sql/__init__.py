"""Flight SQL: messages, statements, prepared statements, metadata, sessions."""
