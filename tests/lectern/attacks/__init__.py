"""Attacks on graders: each succeeds against one without a wall, and none against `lectern`."""
