"""Rules, searches and oracles: what learned policies are compared with."""
