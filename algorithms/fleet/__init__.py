"""The joint learner of the fleet: router, allocator and cacher begin at a tuned rule and learn what is left."""
