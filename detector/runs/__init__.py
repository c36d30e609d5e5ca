"""The folders that runs write, and what killed runs leave."""
