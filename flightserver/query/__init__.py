"""SQL over exactly the files that one snapshot names."""
