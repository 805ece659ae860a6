"""DoAction families: each action is a request type, a response type and a handler."""
