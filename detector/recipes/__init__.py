"""Everything that decides a training: recipes, their defaults, and how they become trainers."""
