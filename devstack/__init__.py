"""devstack: one stack.yaml brings up a microservice system on a laptop."""

__version__ = "0.1.0"
