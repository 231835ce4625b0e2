"""What goes wrong between whoever asks and what AWS does.

A rule says which requests it is about, which of them it strikes, and how:

    {"operations": ["RunInstances", "ec2:*"], "match": {"SubnetId": "subnet-1"}, "presigned": false,
     "nth": 2, "every": 3, "times": 4, "chance": 0.5,
     "fault": "throttle"}

`fault` is one of: throttle, capacity, error (with "code", "message", "status"), lost (carried out, and
no answer), dropped (not carried out, and no answer), slow ("seconds", before it is carried out), block
(carried out, and its answer held until it is released), hold (held before it is carried out; what is
released then is dropped when "drop" says so).
"""

import fnmatch
import random
import threading

THROTTLED = {
    "ec2": (503, "RequestLimitExceeded", "Request limit exceeded."),
    "elasticloadbalancing": (400, "Throttling", "Rate exceeded"),
    "autoscaling": (400, "Throttling", "Rate exceeded"),
    "sts": (400, "Throttling", "Rate exceeded"),
    "s3": (503, "SlowDown", "Please reduce your request rate."),
}
BEFORE = ("throttle", "capacity", "error", "dropped", "slow", "hold")


class Refused(Exception):
    """An error of AWS's, as it says it."""

    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def throttled(service):
    status, code, message = THROTTLED.get(service, (400, "ThrottlingException", "Rate exceeded"))
    return Refused(code, message, status)


def no_capacity(params):
    kind = params.get("InstanceType", "?")
    return Refused(
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested.",
        500,
    )


class Rule:
    def __init__(self, number, given, seed):
        self.number, self.given = number, given
        self.seen = self.struck = 0
        self.random = random.Random(seed + number)
        self.released = threading.Event()
        # The requests that are held now.
        self.held = []

    def is_about(self, call):
        given = self.given
        if call["presigned"] and not given.get("presigned", False):
            return False
        name, full = call["operation"], f"{call['service']}:{call['operation']}"
        wanted = given.get("operations", ["*"])
        if not any(fnmatch.fnmatch(name, w) or fnmatch.fnmatch(full, w) for w in wanted):
            return False
        wanted = given.get("match", {})
        return all(fnmatch.fnmatch(str(call["params"].get(key, "")), value) for key, value in wanted.items())

    def strikes(self, call):
        """Whether it strikes this request; each request is shown once."""
        if not self.is_about(call):
            return False
        self.seen += 1
        given = self.given
        if given.get("times") is not None and self.struck >= given["times"]:
            return False
        if "nth" in given and self.seen != given["nth"]:
            return False
        if "every" in given and self.seen % given["every"] != 0:
            return False
        if "chance" in given and self.random.random() >= given["chance"]:
            return False
        self.struck += 1
        return True


class Faults:
    def __init__(self, seed):
        self.seed, self.made, self.rules = seed, 0, {}
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)

    def add(self, given):
        if given.get("fault") not in (*BEFORE, "lost", "block"):
            raise ValueError(f"no such fault: {given.get('fault')}")
        with self.lock:
            self.made += 1
            self.rules[self.made] = Rule(self.made, given, self.seed)
            return self.made

    def remove(self, number):
        with self.lock:
            rules = [self.rules.pop(number)] if number else list(self.rules.values())
            if not number:
                self.rules.clear()
        for rule in rules:
            rule.released.set()

    def striking(self, call):
        with self.lock:
            return [rule for rule in self.rules.values() if rule.strikes(call)]

    def hold(self, rule, call):
        with self.changed:
            rule.held.append(call)
            self.changed.notify_all()
        rule.released.wait()
        with self.changed:
            rule.held.remove(call)

    def held(self, number, patience):
        """The first request that the rule holds, waited for."""
        with self.changed:
            there = lambda: number not in self.rules or self.rules[number].held
            self.changed.wait_for(there, patience)
            rule = self.rules.get(number)
            return rule.held[0] if rule and rule.held else None
