"""What things cost."""


def price(pieces: int, cents: int) -> int:
    """Price in cents of a number of pieces, with the discount for many."""
    if pieces < 1 or cents < 0:
        raise ValueError("cannot be sold")
    full = pieces * cents
    return full - full // 10 if pieces >= 10 else full
