"""Commands: one module each; `main.py` dispatches."""
