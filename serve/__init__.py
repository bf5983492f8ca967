"""The live service: a scheduler in front of real diffusion pipelines, on Ray Serve."""
