"""Loads moto without the megabytes of regions and instance types that nobody here asks for."""

TYPES = ("t3.micro", "t3.small", "t3a.small", "t3.medium", "m6i.large", "c6i.large")
REGIONS = ("eu-central-1", "us-east-1")


def load():
    import boto3

    boto3.Session.get_available_regions = lambda _, service, partition_name="aws", **__: (
        list(REGIONS) if partition_name == "aws" else []
    )
    import moto.utilities.utils as utilities

    whole = utilities.load_resource

    def some(resource):
        if resource.startswith("ec2/resources/instance_type_offerings/"):
            place, region = resource.split("/")[-2:]
            region = region.split(".")[0]
            if region not in REGIONS:
                return []
            zones = {"availability-zone": [region + letter for letter in "abc"], "region": [region]}
            return [
                {"InstanceType": kind, "Location": zone}
                for zone in zones.get(place, [])
                for kind in TYPES
            ]
        if resource == "ec2/resources/instance_types.json":
            return {kind: described(kind) for kind in TYPES}
        return whole(resource)

    utilities.load_resource = some
    try:
        import moto.ec2.models  # noqa: F401
    finally:
        utilities.load_resource = whole
    import moto.autoscaling.models  # noqa: F401
    import moto.elbv2.models  # noqa: F401
    import moto.s3.models  # noqa: F401


def described(kind):
    """As DescribeInstanceTypes shows it: what matters for quotas and images."""
    cores = 2
    return {
        "InstanceType": kind,
        "CurrentGeneration": True,
        "VCpuInfo": {"DefaultVCpus": cores, "DefaultCores": 1, "DefaultThreadsPerCore": 2},
        "MemoryInfo": {"SizeInMiB": 2048},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "SupportedUsageClasses": ["on-demand", "spot"],
        "SupportedRootDeviceTypes": ["ebs"],
        "BareMetal": False,
        "Hypervisor": "nitro",
    }


