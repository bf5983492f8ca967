"""The fleet world: unequal sites that keep models, route requests and choose steps, beside a cloud."""
