"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# how long an example takes is the machine's business, and what a test is for is never time
settings.register_profile(
    "devstack", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("devstack")
