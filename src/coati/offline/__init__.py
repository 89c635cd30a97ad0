"""Data directories without a server: what is in snapshots and logs, whether it is sound, and the tree as it was."""
