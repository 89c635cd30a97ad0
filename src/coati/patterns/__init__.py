"""Patterns: applications that people build on coordination again and again, as small layers over client and recipes."""
