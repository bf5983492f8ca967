"""What every world shares: interfaces, kinds, scenario files, checked fields, errors, traces."""
