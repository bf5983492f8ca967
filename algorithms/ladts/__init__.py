"""LAD-TS: discrete soft actor-critic whose actor is a latent-action diffusion (after arXiv 2412.18212).

Its learned baselines are the same algorithm with another deciding network (``baselines``) and, for DQN-TS, another
module and learner (``dqn``). ``settings``, ``actor``, ``baselines`` and ``policy`` need torch alone; ``config``,
``module``, ``learner``, ``dqn``, ``runner`` and ``algorithm`` are the RLlib algorithm and import Ray.
"""
