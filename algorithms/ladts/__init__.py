"""LAD-TS: discrete soft actor-critic whose actor is a latent-action diffusion (after arXiv 2412.18212).

``settings``, ``actor`` and ``policy`` need torch alone; ``config``, ``module``, ``learner``, ``runner`` and
``algorithm`` are the RLlib algorithm and import Ray.
"""
