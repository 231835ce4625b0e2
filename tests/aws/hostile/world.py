"""What is there before anybody asks: a network, a load balancer with its target groups, a bucket, an
image to begin with, and an Auto Scaling group of none."""

import os

from moto.iam.models import iam_backends

BASE = "debian-12-amd64-20260101"
OWNER = "136693071363"
TARGET_GROUPS = ("staging", "standby", "production", "second", "group")


class World:
    def __init__(self, nature):
        self.nature = nature
        ec2, elb, settings = nature.ec2, nature.elb, nature.settings
        # Addresses of loopback that no other test has: what asks them is answered at once, or refused.
        self.network = f"127.{16 + os.getpid() % 200}"
        self.vpc = ec2.create_vpc(f"{self.network}.0.0/16")
        zones = [settings.region + letter for letter in "ab"]
        self.subnets = [
            ec2.create_subnet(self.vpc.id, f"{self.network}.{n}.0/24", availability_zone=zone)
            for n, zone in enumerate(zones)
        ]
        self.security_group = ec2.create_security_group("windlass", "of the tests", vpc_id=self.vpc.id)
        self.image = ec2.register_image(name=BASE, description="to begin with")
        self.image.owner_id, self.image.architecture = OWNER, "x86_64"
        self.image.virtualization_type, self.image.root_device_type = "hvm", "ebs"
        subnets = [subnet.id for subnet in self.subnets]
        self.balancer = elb.create_load_balancer("shop", [self.security_group.id], subnets)
        self.target_groups = {}
        for number, name in enumerate(TARGET_GROUPS):
            self.target_group(name, 8080)
            if name != "standby":
                self.listener(8000 + number, [name] if name != "production" else ["production", "standby"])
        self.bucket = "acme-artifacts"
        nature.s3.create_bucket(self.bucket, settings.region)
        iam = iam_backends[settings.account]["aws"]
        self.profile = "windlass-builder"
        iam.create_instance_profile(self.profile, "/", [], [])
        self.template = ec2.create_launch_template(
            "storefront-production",
            "of the tests",
            {"ImageId": self.image.id, "InstanceType": "t3.small", "SecurityGroupIds": [self.security_group.id]},
            {},
        )
        self.groups = {}
        self.auto_scaling_group("storefront-production", "group", 0)

    def target_group(self, name, port):
        made = self.nature.elb.create_target_group(
            name,
            vpc_id=self.vpc.id,
            protocol="HTTP",
            protocol_version="HTTP1",
            port=port,
            healthcheck_protocol="HTTP",
            healthcheck_path="/healthz",
            healthcheck_interval_seconds=5,
            healthcheck_timeout_seconds=2,
            healthy_threshold_count=2,
            unhealthy_threshold_count=2,
            target_type="instance",
        )
        made.attributes["deregistration_delay.timeout_seconds"] = str(self.nature.settings.delay)
        self.target_groups[name] = made.arn
        return made.arn

    def listener(self, port, names):
        """Whose first target group has all the weight."""
        groups = [
            {"TargetGroupArn": self.target_groups[name], "Weight": 0 if n else 1} for n, name in enumerate(names)
        ]
        action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
        if len(groups) == 1:
            action["TargetGroupArn"] = groups[0]["TargetGroupArn"]
        return self.nature.elb.create_listener(self.balancer.arn, "HTTP", str(port), None, None, [action]).arn

    def auto_scaling_group(self, name, target_group, size):
        self.nature.autoscaling.create_auto_scaling_group(
            name=name,
            availability_zones=[],
            desired_capacity=size,
            max_size=20,
            min_size=0,
            launch_config_name=None,
            launch_template={"LaunchTemplateId": self.template.id, "Version": "1"},
            vpc_zone_identifier=",".join(subnet.id for subnet in self.subnets),
            default_cooldown=None,
            health_check_period=0,
            health_check_type="ELB",
            load_balancers=[],
            target_group_arns=[self.target_groups[target_group]],
            placement_group=None,
            termination_policies=[],
            tags=[],
        )
        self.groups[name] = target_group

    def add(self, target_group=None, port=8080, group=None, size=0):
        """More of it: a target group with a listener, an Auto Scaling group behind one."""
        if target_group:
            self.target_group(target_group, port)
            self.listener(9000 + len(self.target_groups), [target_group])
        if group:
            self.auto_scaling_group(group, target_group or "group", size)
        return self.described()

    def described(self):
        settings = self.nature.settings
        return {
            "region": settings.region,
            "account": settings.account,
            "vpc": self.vpc.id,
            "subnets": [subnet.id for subnet in self.subnets],
            "security_group": self.security_group.id,
            "load_balancer": self.balancer.arn,
            "target_groups": self.target_groups,
            "bucket": self.bucket,
            "profile": self.profile,
            "base": {"ami": self.image.id, "name": "debian-12-*", "owner": OWNER},
            "launch_template": self.template.id,
            "auto_scaling_groups": self.groups,
        }
