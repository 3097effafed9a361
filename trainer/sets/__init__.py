"""Data sets of many forms, read through one visible mapping each into one prepared form."""
