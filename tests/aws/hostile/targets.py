"""Target groups whose targets are initial before they are healthy, and drain before they are gone."""

from moto.elbv2.models import ELBv2Backend, FakeHealthStatus, FakeTargetGroup, TargetGroupNotFoundError

from faults import Refused

NOT_IN_USE = ("unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer")
NOT_REGISTERED = ("unused", "Target.NotRegistered", "Target is not registered to the target group")
STOPPED = ("unused", "Target.InvalidState", "Target is in the stopped state")
REGISTERING = ("initial", "Elb.RegistrationInProgress", "Target registration is in progress")
INITIAL = ("initial", "Elb.InitialHealthChecking", "Initial health checks in progress")
FAILED = ("unhealthy", "Target.FailedHealthChecks", "Health checks failed with these codes: [503]")
DRAINING = ("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress")


class Targets:
    def __init__(self, nature):
        self.nature = nature
        # (target group, target) -> since when; and until when it drains, and what it is.
        self.since, self.draining = {}, {}
        # Target group -> what there was, whenever that changed.
        self.history = {}
        self.turns = 0
        self.instead()

    def instead(self):
        targets = self

        def register(group, wanted):
            for target in wanted:
                instance = targets.instance(target["Id"])
                if instance and (instance.state != "running" or targets.nature.is_new(instance.id)):
                    said = f"The following targets are not in a running state and cannot be registered: '{target['Id']}'"
                    raise Refused("InvalidTarget", said)
                if instance is None and group.target_type == "instance":
                    raise Refused("InvalidTarget", f"The following targets are invalid: '{target['Id']}'")
            for target in wanted:
                targets.add(group, target["Id"], target.get("Port", group.port))

        def deregister(group, wanted):
            for target in wanted:
                targets.drain(group, target["Id"])

        def deregister_terminated(group, ids):
            for id in ids:
                targets.drain(group, id)

        def describe(backend, arn, wanted):
            group = backend.target_groups.get(arn)
            if group is None:
                raise TargetGroupNotFoundError()
            leaving = [target for key, (_, target) in targets.draining.items() if key[0] == arn]
            wanted = wanted or [*group.targets.values(), *leaving]
            return [targets.status(group, target) for target in wanted]

        FakeTargetGroup.register, FakeTargetGroup.deregister = register, deregister
        FakeTargetGroup.deregister_terminated_instances = deregister_terminated
        FakeTargetGroup.health_for = lambda group, target, _: targets.status(group, target)
        ELBv2Backend.describe_target_health = describe

    def instance(self, id):
        if id.startswith("i-"):
            return self.nature.ec2.get_instance_by_id(id)
        lives = self.nature.lives.values()
        return next((life.instance for life in lives if life.instance.private_ip_address == id), None)

    def add(self, group, id, port):
        if id not in group.targets:
            self.since[group.arn, id] = self.nature.now()
        self.draining.pop((group.arn, id), None)
        group.targets[id] = {"Id": id, "Port": port}

    def drain(self, group, id):
        """What is not there is left so, as DeregisterTargets does it."""
        target = group.targets.pop(id, None)
        if target:
            self.draining[group.arn, id] = (self.nature.now() + self.nature.settings.drain, target)

    def status(self, group, target):
        id = target["Id"]
        there = group.targets.get(id)
        leaving = self.draining.get((group.arn, id))
        if there:
            said = self.health(group, id)
        else:
            said = DRAINING if leaving else NOT_REGISTERED
            there = leaving[1] if leaving else {"Id": id, "Port": target.get("Port", group.port)}
        return FakeHealthStatus(id, there["Port"], group.health_check_port, *said)

    def health(self, group, id):
        if not self.nature.elb._any_listener_using(group.arn):
            return NOT_IN_USE
        instance = self.instance(id)
        if instance is None or instance.state != "running":
            return STOPPED
        nature, settings = self.nature, self.nature.settings
        begun = max(self.since[group.arn, id], nature.lives[instance.id].running or 0)
        age = nature.now() - begun
        if nature.is_sick(instance):
            return FAILED if age >= settings.check * int(group.unhealthy_threshold_count) else REGISTERING
        ready = settings.start + settings.check * int(group.healthy_threshold_count)
        if age >= ready:
            return ("healthy",)
        return REGISTERING if age < settings.check else INITIAL

    def serving(self, name):
        """The image of the target whose turn it is."""
        groups = [group for group in self.nature.elb.target_groups.values() if group.name == name]
        healthy = [id for group in groups for id in group.targets if self.health(group, id)[0] == "healthy"]
        self.turns += 1
        return self.instance(healthy[self.turns % len(healthy)]).image_id if healthy else None

    def tick(self, now):
        for key, (until, _) in list(self.draining.items()):
            if now >= until:
                del self.draining[key]
        for arn, group in self.nature.elb.target_groups.items():
            states = [self.health(group, id)[0] for id in group.targets]
            draining = sum(1 for key in self.draining if key[0] == arn)
            there = {"healthy": states.count("healthy"), "registered": len(states), "draining": draining}
            history = self.history.setdefault(arn, [])
            if not history or {key: history[-1][key] for key in there} != there:
                history.append({"at": round(now, 4), **there})

    def state(self):
        return {
            arn: {
                "name": group.name,
                "targets": {id: self.health(group, id)[0] for id in group.targets},
                "draining": [key[1] for key in self.draining if key[0] == arn],
                "history": self.history.get(arn, []),
            }
            for arn, group in self.nature.elb.target_groups.items()
        }
