"""What AWS does and moto does not: everything takes its time, and what is new is not seen at once.

All of it happens in `tick`, under one lock: moto's own objects are changed, so that its answers say so.
"""

import base64
import fnmatch
import threading
import time

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import EC2Backend, ec2_backends
from moto.elbv2.models import elbv2_backends
from moto.s3.models import s3_backends

from faults import Refused
from groups import Groups
from targets import Targets

BUILDER = "windlass:image"
STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


class Life:
    """An instance's way from one state to the next."""

    def __init__(self, instance, now):
        self.instance, self.born, self.running, self.until = instance, now, None, None


class Nature:
    def __init__(self, settings, machines):
        self.settings, self.machines = settings, machines
        self.lock = threading.RLock()
        self.over = False
        account, region = settings.account, settings.region
        self.ec2 = ec2_backends[account][region]
        self.elb = elbv2_backends[account][region]
        self.autoscaling = autoscaling_backends[account][region]
        self.s3 = s3_backends[account]["aws"]
        self.lives, self.images, self.sick, self.failing = {}, {}, [], []
        self.describing, self.replayed = False, None
        self.began = time.monotonic()
        self.targets = Targets(self)
        self.groups = Groups(self)
        self.instead()

    def now(self):
        return time.monotonic() - self.began

    def go_on(self):
        while not self.over:
            with self.lock:
                self.tick()
            time.sleep(0.03)

    # -- requests

    def before(self, call, replayed):
        self.describing = call["operation"].startswith(("Describe", "Get", "List"))
        self.replayed = replayed

    def after(self, call, answer):
        self.describing = False
        made, self.made, self.replayed = getattr(self, "made", None), None, None
        return made if call["operation"] == "RunInstances" else None

    def own(self, call):
        """The answer to a request that moto does not answer as AWS does: None, or text or a document."""
        params, operation = call["params"], call["operation"]
        if operation == "GetServiceQuota":
            value = float(self.settings.vcpus)
            names = {key: params.get(key) for key in ("ServiceCode", "QuotaCode")}
            return {"Quota": {**names, "Value": value, "Adjustable": True, "GlobalQuota": False}}
        if operation == "GetConsoleOutput":
            said = base64.b64encode(self.machines.console(params["InstanceId"]).encode()).decode()
            return (
                '<GetConsoleOutputResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
                f"<requestId>hostile-{call['n']}</requestId><instanceId>{params['InstanceId']}</instanceId>"
                f"<output>{said}</output></GetConsoleOutputResponse>"
            )
        if call["service"] == "ssm":
            return self.machines.ssm(operation, params, self.running_builders())
        return None

    def running_builders(self):
        return [id for id, life in self.lives.items() if life.instance.state == "running" and life.running]

    # -- what moto's objects do instead

    def instead(self):
        nature = self
        run, images, reservations = EC2Backend.run_instances, EC2Backend.describe_images, EC2Backend.all_reservations
        stop, start, terminate = EC2Backend.stop_instances, EC2Backend.start_instances, EC2Backend.terminate_instances
        create, associate = EC2Backend.create_image, EC2Backend.associate_iam_instance_profile

        def run_instances(backend, *args, **kwargs):
            if nature.replayed:
                return nature.replayed
            image = args[0] if args else kwargs.get("image_id")
            if image and (image not in backend.amis or backend.amis[image].state != "available"):
                raise Refused("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
            made = run(backend, *args, **kwargs)
            for instance in made.instances:
                nature.lives[instance.id] = Life(instance, nature.now())
                nature.put(instance, "pending")
            nature.made = made
            return made

        def associated(backend, *args, **kwargs):
            return None if nature.replayed else associate(backend, *args, **kwargs)

        def all_reservations(backend, filters=None):
            found = reservations(backend, filters)
            if nature.describing:
                found = [there for there in found if not any(nature.is_new(i.id) for i in there.instances)]
            return found

        def describe_images(backend, *args, **kwargs):
            describing = nature.describing
            if describing and nature.images:
                hidden = {id: ami for id, ami in backend.amis.items() if nature.is_new(id)}
                for id in hidden:
                    del backend.amis[id]
                try:
                    return images(backend, *args, **kwargs)
                finally:
                    backend.amis.update(hidden)
            return images(backend, *args, **kwargs)

        def stop_instances(backend, ids):
            before = {id: nature.ec2.get_instance(id).state for id in ids}
            for id, state in before.items():
                if state not in ("running", "stopped", "stopping"):
                    said = f"The instance '{id}' is not in a state from which it can be stopped."
                    raise Refused("IncorrectInstanceState", said)
            done = stop(backend, ids)
            for id, state in before.items():
                if state != "stopped":
                    nature.ends(id, "stopping", nature.settings.stopping)
            return done

        def start_instances(backend, ids):
            done = start(backend, ids)
            for id in ids:
                nature.lives[id].born = nature.now()
                nature.put(nature.lives[id].instance, "pending")
            return done

        def terminate_instances(backend, ids):
            gone = [id for id in ids if nature.ec2.get_instance(id).state in ("shutting-down", "terminated")]
            done = [(nature.ec2.get_instance(id), nature.ec2.get_instance(id)._state) for id in gone]
            rest = [id for id in ids if id not in gone]
            if rest or not ids:
                done += terminate(backend, rest)
            for id in rest:
                nature.ends(id, "shutting-down", nature.settings.shutdown)
            nature.elb.notify_terminate_instances(rest)
            return done

        def create_image(backend, instance_id, name, description, tag_specifications):
            if any(ami.name == name for ami in backend.amis.values()):
                raise Refused("InvalidAMIName.Duplicate", f"AMI name {name} is already in use")
            state = nature.ec2.get_instance(instance_id).state
            if state not in ("running", "stopped"):
                said = f"Instance '{instance_id}' is not in state 'running' or 'stopped'."
                raise Refused("IncorrectState", said)
            wanted = [spec for spec in tag_specifications if spec["ResourceType"] != "snapshot"]
            ami = create(backend, instance_id, name, description, wanted)
            for spec in tag_specifications:
                if spec["ResourceType"] == "snapshot":
                    ami.ebs_snapshot.add_tags({tag["Key"]: tag["Value"] for tag in spec["Tags"]})
            ami.state = "pending"
            nature.images[ami.id] = nature.now()
            nature.machines.snapshot(instance_id, ami.id)
            return ami

        EC2Backend.run_instances, EC2Backend.all_reservations = run_instances, all_reservations
        EC2Backend.describe_images, EC2Backend.create_image = describe_images, create_image
        EC2Backend.stop_instances, EC2Backend.start_instances = stop_instances, start_instances
        EC2Backend.terminate_instances = terminate_instances
        EC2Backend.associate_iam_instance_profile = associated

    def put(self, instance, state):
        instance._state.name, instance._state.code = state, STATES[state]

    def is_new(self, id):
        born = self.lives[id].born if id in self.lives else self.images.get(id)
        return born is not None and self.now() < born + self.settings.lag

    def ends(self, id, through, after):
        life = self.lives[id]
        self.put(life.instance, through)
        life.until, life.running = self.now() + after, None
        self.machines.stop(id)

    def ends_by_itself(self, id):
        instance = self.ec2.get_instance(id)
        wanted = instance.instance_initiated_shutdown_behavior == "terminate"
        (self.ec2.terminate_instances if wanted else self.ec2.stop_instances)([id])

    # -- time

    def tick(self):
        now = self.now()
        self.describing = False
        for id, life in list(self.lives.items()):
            state = life.instance.state
            if state == "pending" and now >= life.born + self.settings.boot:
                self.put(life.instance, "running")
                life.running = now
                self.boots(life.instance)
            elif state == "running" and self.machines.was_shut_down(id):
                self.ends_by_itself(id)
            elif state == "stopping" and now >= life.until:
                self.put(life.instance, "stopped")
            elif state == "shutting-down" and now >= life.until:
                self.put(life.instance, "terminated")
        for id, asked in self.images.items():
            ami = self.ec2.amis.get(id)
            if ami and ami.state == "pending" and now >= asked + self.settings.image:
                failed = any(fnmatch.fnmatch(ami.name, name) for name in self.failing)
                ami.state = "failed" if failed else "available"
        self.targets.tick(now)
        self.groups.tick(now)

    def boots(self, instance):
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        if instance.user_data and (BUILDER in tags or self.settings.run_members):
            self.machines.boot(instance.id, instance.image_id, instance.user_data.decode())
        elif BUILDER in tags:
            self.machines.boot(instance.id, instance.image_id, None)

    def is_sick(self, instance):
        name = next((tag["value"] for tag in instance.get_tags() if tag["key"] == "Name"), "")
        there = {"image": instance.image_id, "instance": instance.id, "name": name}
        return any(
            all(fnmatch.fnmatch(there[key], wanted) for key, wanted in which.items() if key in there)
            and ("file" not in which or self.machines.image_has(instance.image_id, which["file"]))
            for which in self.sick
        )

    # -- for assertions

    def state(self):
        tags = lambda thing: {tag["key"]: tag["value"] for tag in thing.get_tags()}
        instances = [life.instance for life in self.lives.values()]
        uploads = [
            {"bucket": bucket.name, "key": upload.key_name, "id": id}
            for bucket in self.s3.buckets.values()
            for id, upload in bucket.multiparts.items()
        ]
        return {
            "instances": [
                {
                    "id": i.id,
                    "state": i.state,
                    "image": i.image_id,
                    "type": i.instance_type,
                    "subnet": i.subnet_id,
                    "ip": i.private_ip_address,
                    "tags": tags(i),
                    "user_data": i.user_data.decode() if i.user_data else None,
                }
                for i in instances
            ],
            "images": [
                {
                    "id": ami.id,
                    "name": ami.name,
                    "state": ami.state,
                    "tags": tags(ami),
                    "snapshot": ami.ebs_snapshot.id,
                    "content": self.machines.content(ami.id),
                }
                for ami in self.ec2.amis.values()
            ],
            "snapshots": [
                {"id": s.id, "tags": tags(s), "image": s.from_ami} for s in self.ec2.snapshots.values()
            ],
            "volumes": [v.id for v in self.ec2.volumes.values() if v.status == "available"],
            "uploads": uploads,
            "objects": {b.name: sorted(b.keys.keys()) for b in self.s3.buckets.values()},
            "target_groups": self.targets.state(),
            "groups": self.groups.state(),
            "builders": self.machines.state(),
        }
