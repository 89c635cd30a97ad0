"""Simulated clock, disk and network, and what checks a run: published for tests of programs that use coati."""
