"""What a test may choose. Times are in seconds, and short: hostile, not slow."""

DEFAULTS = {
    "region": "eu-central-1",
    "account": "123456789012",
    # An instance is pending for so long, stopping, shutting down.
    "boot": 0.2,
    "stopping": 0.15,
    "shutdown": 0.15,
    # What a running instance needs until it answers, and between two looks of its target group.
    "start": 0.1,
    "check": 0.1,
    # A deregistered target drains for so long. Its target group says a second, or more where told.
    "drain": 0.4,
    "delay": 1,
    # An image is pending for so long.
    "image": 0.4,
    # What is new is not found, and not in lists, for so long.
    "lag": 0.15,
    # An Auto Scaling group looks after its instances this often.
    "heal": 0.3,
    # Whether the user data of instances that are no builders runs too.
    "run_members": False,
    # vCPUs of running on-demand standard instances.
    "vcpus": 64,
    "seed": 1,
}


class Settings:
    def __init__(self, given):
        unknown = set(given) - set(DEFAULTS)
        if unknown:
            raise SystemExit(f"unknown options: {sorted(unknown)}")
        for name, value in {**DEFAULTS, **given}.items():
            setattr(self, name, value)
