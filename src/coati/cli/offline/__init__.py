"""The storage commands: thin, over `coati.offline`. No server is asked."""
