"""Auto Scaling groups with hands of their own: they launch, register, drain, end and replace, unless the
process for it is suspended, and what they launch is of the template's version that is named then."""

from moto.autoscaling.models import (
    ASG_NAME_TAG,
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
    TerminateInstanceActivity,
)

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.utils import parse_user_data

from faults import Refused

HERE = ("Pending", "InService")


class Groups:
    def __init__(self, nature):
        self.nature, self.backend = nature, nature.autoscaling
        self.due, self.versions = {}, {}
        self.instead()

    def instead(self):
        groups = self

        def set_desired_capacity(group, wanted):
            group.desired_capacity = group.min_size if wanted is None else wanted
            groups.due[group.name] = 0

        def checked(backend, name, wanted):
            group = backend.autoscaling_groups.get(name)
            if group is None:
                raise Refused("ValidationError", f"AutoScalingGroup name not found - no such group: {name}")
            if not group.min_size <= int(wanted) <= group.max_size:
                said = f"New SetDesiredCapacity value {wanted} is outside of the group's min and max size"
                raise Refused("ValidationError", said)
            group.set_desired_capacity(int(wanted))

        def terminate_instance(backend, id, decrement):
            state, group = groups.member(id)
            if state is None:
                raise Refused("ValidationError", f"Instance Id not found - No managed instance found for {id}")
            before = group.desired_capacity
            if decrement:
                if before - 1 < group.min_size:
                    said = "Currently, desiredSize equals minSize. Terminating instance without replacement will violate group's min size constraint."
                    raise Refused("ValidationError", said)
                group.desired_capacity = before - 1
            groups.leave(group, state)
            return TerminateInstanceActivity(state.instance, before)

        def detach_instances(backend, name, ids, decrement):
            group = backend.autoscaling_groups[name]
            for state in [s for s in group.instance_states if s.instance.id in ids]:
                groups.drain(group, state)
                groups.nature.ec2.delete_tags([state.instance.id], {ASG_NAME_TAG: name})
            group.instance_states = [s for s in group.instance_states if s.instance.id not in ids]
            if decrement:
                group.desired_capacity -= len(ids)
            return []

        def launch_template(state):
            return groups.versions.get(state.instance.id) or group_template(state)

        group_template = InstanceState.launch_template.fget
        # moto reads only the first version's.
        LaunchTemplateVersion.user_data = property(lambda version: parse_user_data(version.data.get("UserData")))
        AutoScalingResponse.describe_instance_refreshes = lambda asked: ActionResult(
            {"InstanceRefreshes": groups.refreshes(asked._get_param("AutoScalingGroupName"))}
        )
        FakeAutoScalingGroup.set_desired_capacity = set_desired_capacity
        AutoScalingBackend.set_desired_capacity = checked
        AutoScalingBackend.terminate_instance = terminate_instance
        AutoScalingBackend.detach_instances = detach_instances
        AutoScalingBackend.notify_terminate_instances = lambda backend, ids: None
        AutoScalingBackend.update_attached_target_groups = lambda backend, name: None
        InstanceState.launch_template = property(launch_template)

    def refreshes(self, name):
        """moto has none. One is under way where a tag of the group says so."""
        group = self.backend.autoscaling_groups.get(name)
        statuses = [tag["Value"] for tag in group.tags if tag["Key"] == "test:refresh"] if group else []
        return [{"AutoScalingGroupName": name, "InstanceRefreshId": "1", "Status": status} for status in statuses]

    def member(self, id):
        for group in self.backend.autoscaling_groups.values():
            for state in group.instance_states:
                if state.instance.id == id:
                    return state, group
        return None, None

    def target_groups(self, group):
        known = self.nature.elb.target_groups
        return [known[arn] for arn in group.target_group_arns if arn in known]

    def drain(self, group, state):
        for target_group in self.target_groups(group):
            self.nature.targets.drain(target_group, state.instance.id)

    def leave(self, group, state):
        if state.lifecycle_state != "Terminating":
            state.lifecycle_state = "Terminating"
            self.drain(group, state)

    def launch(self, group, count):
        template = group.ec2_launch_template
        version = template.get_version(group.launch_template_version)
        subnets = group.vpc_zone_identifier.split(",")
        for _ in range(count):
            used = [s.instance.subnet_id for s in group.instance_states]
            subnet = min(subnets, key=used.count)
            made = self.nature.ec2.run_instances(
                version.image_id,
                1,
                version.user_data,
                [],
                instance_type=version.instance_type,
                is_instance_type_default=False,
                tags={"instance": {ASG_NAME_TAG: group.name, **group.get_propagated_tags(), **version.instance_tags}},
                launch_template={"LaunchTemplateId": template.id, "Version": str(version.number)},
                security_group_ids=version.data.get("SecurityGroupIds", []),
                subnet_id=subnet,
                region_name=self.nature.settings.region,
            )
            instance = made.instances[0]
            instance.autoscaling_group = group
            protected = group.new_instances_protected_from_scale_in
            state = InstanceState(instance, "Pending", protected_from_scale_in=protected)
            group.instance_states.append(state)
            names = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
            self.versions[instance.id] = {**names, "Version": str(version.number)}

    def tick(self, now):
        for group in self.backend.autoscaling_groups.values():
            suspended = {process["ProcessName"] for process in group.suspended_processes}
            self.go_on(group, suspended)
            if now >= self.due.get(group.name, 0):
                self.due[group.name] = now + self.nature.settings.heal
                self.look_after(group, suspended)

    def go_on(self, group, suspended):
        """What is under way."""
        ec2, targets = self.nature.ec2, self.nature.targets
        for state in list(group.instance_states):
            id, there = state.instance.id, state.instance.state
            if state.lifecycle_state == "Terminating":
                arns = [arn for arn in group.target_group_arns if (arn, id) in targets.draining]
                if not arns and there not in ("shutting-down", "terminated"):
                    ec2.terminate_instances([id])
                if there == "terminated":
                    group.instance_states.remove(state)
            elif there == "running" and not getattr(state, "joined", False):
                state.joined = True
                if state.lifecycle_state == "Pending":
                    state.lifecycle_state = "InService"
                if "AddToLoadBalancer" not in suspended:
                    for target_group in self.target_groups(group):
                        targets.add(target_group, id, target_group.port)

    def look_after(self, group, suspended):
        if "HealthCheck" not in suspended:
            for state in group.instance_states:
                if state.lifecycle_state == "InService" and self.is_ill(group, state):
                    state.health_status = "Unhealthy"
        if "ReplaceUnhealthy" not in suspended and "Terminate" not in suspended:
            for state in [s for s in group.instance_states if s.health_status == "Unhealthy"]:
                self.leave(group, state)
        here = [s for s in group.instance_states if s.lifecycle_state in HERE]
        more = (group.desired_capacity or 0) - len(here)
        if more > 0 and "Launch" not in suspended and group.ec2_launch_template:
            self.launch(group, more)
        if more < 0 and "Terminate" not in suspended:
            # The default policy: what is of the oldest version, and then what is oldest.
            free = [s for s in here if not s.protected_from_scale_in]
            age = lambda s: (int((s.launch_template or {}).get("Version", 0)), self.nature.lives[s.instance.id].born)
            for state in sorted(free, key=age)[:-more]:
                self.leave(group, state)

    def is_ill(self, group, state):
        if state.instance.state != "running":
            return True
        healths = [
            self.nature.targets.health(target_group, state.instance.id)[0]
            for target_group in self.target_groups(group)
            if state.instance.id in target_group.targets
        ]
        return group.health_check_type == "ELB" and "unhealthy" in healths

    def state(self):
        return {
            name: {
                "desired": group.desired_capacity,
                "min": group.min_size,
                "max": group.max_size,
                "suspended": sorted(process["ProcessName"] for process in group.suspended_processes),
                "version": str(getattr(group, "launch_template_version", "")),
                "instances": [
                    {
                        "id": s.instance.id,
                        "lifecycle": s.lifecycle_state,
                        "health": s.health_status,
                        "protected": bool(s.protected_from_scale_in),
                        "version": (s.launch_template or {}).get("Version"),
                        "image": s.instance.image_id,
                    }
                    for s in group.instance_states
                ],
            }
            for name, group in self.backend.autoscaling_groups.items()
        }
