"""T2DRL: a DDQN caches models, DDPG with a diffusion actor (D3PG) allocates resources (after arXiv 2411.01458).

``settings``, ``spec``, ``allocator``, ``cacher`` and ``policy`` need torch alone; ``config``, ``module``, ``learner``,
``runner`` and ``algorithm`` are the RLlib algorithm and import Ray.
"""
