"""Networks of every role: stacked weights and diffusion chains."""
