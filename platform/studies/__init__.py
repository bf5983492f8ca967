"""Studies: experiments as data, run over seeds, kept as data, and drawn and reported from that data alone."""
