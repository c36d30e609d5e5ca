"""Model directories: what they say, how they are loaded and written."""
