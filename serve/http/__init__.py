"""The live service's HTTP interface, and its client."""
