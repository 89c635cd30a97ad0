"""Recipes: locks, elections, groups, queues and the like, on the client's public verbs."""
