"""The companion library of *The Glass Box*: import from its modules, it re-exports nothing."""
