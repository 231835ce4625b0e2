//! Every request that is ever sent, so that what it takes to be allowed is known before.
//!
//! One line for each, in the block of its service: what it is called, whether it may be repeated, what
//! it is needed for, and what has to be allowed on what. [`all`] is made of these lines, and
//! [`super::policy`] writes them as IAM reads them. A new one stands at the end of its block.
//!
//! The actions, and what each can be limited to, are those of AWS's "Service Authorization Reference".

/// Whether a request may be sent again when nobody knows what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It reads, or done again it changes nothing.
    Freely,
    /// Whoever sends it has to look first.
    Never,
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// As IAM names it: `ec2`.
    pub service: &'static str,
    /// `RunInstances`
    pub name: &'static str,
    pub repeat: Repeat,
    /// It is sent for each of these.
    pub needs: &'static [Need],
    /// Each of these has to be allowed.
    pub grants: &'static [Grant],
}

/// What a request is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Artifacts, and what builders fetch and write.
    Objects,
    /// Images.
    Bake,
    /// Builders that are reached by SSM.
    Ssm,
    /// Fleets of instances that are launched one by one.
    Plain,
    /// Fleets of Auto Scaling groups.
    Groups,
    /// The load balancer of any fleet.
    Targets,
    /// Blue-green by the weights of a listener.
    BlueGreen,
    /// Whether there is room to double a fleet.
    Quotas,
    /// What nobody uses is ended.
    Gc,
    /// `windlass doctor`.
    Doctor,
}

/// An action as IAM names it, and what it is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// `ec2:RunInstances`; of S3 it is not the name of the request.
    pub action: &'static str,
    pub on: On,
}

/// What an action is done to, and so what it can be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum On {
    /// Everybody may.
    Everybody,
    /// AWS limits it to nothing.
    Anything,
    Bucket,
    Objects,
    /// What an instance is launched of, and what comes of that, which carries our tags.
    Launch,
    /// What a group launches by its template.
    GroupLaunch,
    /// What a request of this name makes: tags are given with it.
    Made(&'static str),
    /// A new image of one of our instances, and its snapshots.
    NewImage,
    /// What of these carries our tags: `instance`, `image`, `snapshot`.
    Ours(&'static [&'static str]),
    /// The role that an instance gets by its profile.
    Profile,
    /// The role that a group's instances get by its template.
    TemplateProfile,
    TargetGroups,
    Listeners,
    Rules,
    AutoScalingGroups,
    Templates,
    /// The document by which SSM runs commands.
    Document,
    /// A role of the settings.
    Roles,
}

/// Every request there is.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    [EC2, LOAD_BALANCING, AUTO_SCALING, S3, SSM, QUOTAS, STS].into_iter().flatten()
}

/// The constants of a service, and the list of them. `as` where the action is not called like the
/// request.
macro_rules! operations {
    ($list:ident: $service:literal {$(
        $(#[$doc:meta])*
        $constant:ident = $name:literal $repeat:ident [$($need:ident),+] $(as $action:literal)? on $on:expr
            $(, $also:literal on $there:expr)*;
    )+}) => {
        $(
            $(#[$doc])*
            pub const $constant: Operation = Operation {
                service: $service,
                name: $name,
                repeat: Repeat::$repeat,
                needs: &[$(Need::$need),+],
                grants: &[
                    Grant { action: action!($service $name $($action)?), on: $on },
                    $(Grant { action: $also, on: $there }),*
                ],
            };
        )+
        const $list: &[Operation] = &[$($constant),+];
    };
}

macro_rules! action {
    ($service:literal $name:literal) => {
        concat!($service, ":", $name)
    };
    ($service:literal $name:literal $action:literal) => {
        $action
    };
}

use On::*;

operations! { EC2: "ec2" {
    DESCRIBE_INSTANCES = "DescribeInstances" Freely [Bake, Plain, Groups, Gc] on Anything;
    DESCRIBE_IMAGES = "DescribeImages" Freely [Bake, Plain, Groups, Gc, Doctor] on Anything;
    /// A client token makes one of many.
    RUN_INSTANCES = "RunInstances" Freely [Bake, Plain, Doctor] on Launch,
        "ec2:CreateTags" on Made("RunInstances"), "iam:PassRole" on Profile;
    TERMINATE_INSTANCES = "TerminateInstances" Freely [Bake, Plain, Groups, Gc] on Ours(&["instance"]);
    STOP_INSTANCES = "StopInstances" Freely [Bake] on Ours(&["instance"]);
    CREATE_IMAGE = "CreateImage" Never [Bake] on NewImage, "ec2:CreateTags" on Made("CreateImage");
    CREATE_TAGS = "CreateTags" Freely [Bake, Plain, Groups] on Ours(&["instance", "image", "snapshot"]);
    DEREGISTER_IMAGE = "DeregisterImage" Freely [Bake, Gc] on Ours(&["image"]);
    DESCRIBE_SNAPSHOTS = "DescribeSnapshots" Freely [Gc] on Anything;
    DELETE_SNAPSHOT = "DeleteSnapshot" Freely [Bake, Gc] on Ours(&["snapshot"]);
    DESCRIBE_SUBNETS = "DescribeSubnets" Freely [Plain, Doctor] on Anything;
    DESCRIBE_SECURITY_GROUPS = "DescribeSecurityGroups" Freely [Doctor] on Anything;
    DESCRIBE_INSTANCE_TYPES = "DescribeInstanceTypes" Freely [Quotas, Doctor] on Anything;
    DESCRIBE_INSTANCE_TYPE_OFFERINGS = "DescribeInstanceTypeOfferings" Freely [Doctor] on Anything;
    GET_CONSOLE_OUTPUT = "GetConsoleOutput" Freely [Bake, Plain] on Ours(&["instance"]);
    DESCRIBE_LAUNCH_TEMPLATE_VERSIONS = "DescribeLaunchTemplateVersions" Freely [Groups] on Anything;
    /// A client token makes one of many.
    CREATE_LAUNCH_TEMPLATE_VERSION = "CreateLaunchTemplateVersion" Freely [Groups] on Templates;
    DESCRIBE_TAGS = "DescribeTags" Freely [Targets] on Anything;
    DELETE_TAGS = "DeleteTags" Freely [Targets] on Ours(&["instance"]);
}}

operations! { LOAD_BALANCING: "elasticloadbalancing" {
    DESCRIBE_TARGET_GROUPS = "DescribeTargetGroups" Freely [Targets, Doctor] on Anything;
    DESCRIBE_TARGET_GROUP_ATTRIBUTES = "DescribeTargetGroupAttributes" Freely [Targets] on Anything;
    DESCRIBE_TARGET_HEALTH = "DescribeTargetHealth" Freely [Targets] on Anything;
    REGISTER_TARGETS = "RegisterTargets" Freely [Targets] on TargetGroups;
    DEREGISTER_TARGETS = "DeregisterTargets" Freely [Targets] on TargetGroups;
    DESCRIBE_LOAD_BALANCERS = "DescribeLoadBalancers" Freely [Targets] on Anything;
    DESCRIBE_LISTENERS = "DescribeListeners" Freely [Targets, BlueGreen] on Anything;
    DESCRIBE_RULES = "DescribeRules" Freely [BlueGreen] on Anything;
    MODIFY_LISTENER = "ModifyListener" Freely [BlueGreen] on Listeners;
    MODIFY_RULE = "ModifyRule" Freely [BlueGreen] on Rules;
}}

operations! { AUTO_SCALING: "autoscaling" {
    DESCRIBE_AUTO_SCALING_GROUPS = "DescribeAutoScalingGroups" Freely [Groups] on Anything;
    /// With a template, whoever sends it has to be allowed to launch by that.
    UPDATE_AUTO_SCALING_GROUP = "UpdateAutoScalingGroup" Freely [Groups] on AutoScalingGroups,
        "ec2:RunInstances" on GroupLaunch, "ec2:CreateTags" on Made("RunInstances"),
        "iam:PassRole" on TemplateProfile;
    SET_DESIRED_CAPACITY = "SetDesiredCapacity" Freely [Groups] on AutoScalingGroups;
    SUSPEND_PROCESSES = "SuspendProcesses" Freely [Groups] on AutoScalingGroups;
    RESUME_PROCESSES = "ResumeProcesses" Freely [Groups] on AutoScalingGroups;
    TERMINATE_INSTANCE_IN_GROUP = "TerminateInstanceInAutoScalingGroup" Never [Groups]
        on AutoScalingGroups;
    DESCRIBE_SCALING_ACTIVITIES = "DescribeScalingActivities" Freely [Groups] on Anything;
    CREATE_OR_UPDATE_TAGS = "CreateOrUpdateTags" Freely [Groups] on AutoScalingGroups;
    DELETE_GROUP_TAGS = "DeleteTags" Freely [Groups] on AutoScalingGroups;
    /// What it would tell is of use, and not needed.
    DESCRIBE_INSTANCE_REFRESHES = "DescribeInstanceRefreshes" Never [Groups] on Anything;
    ATTACH_TARGET_GROUPS = "AttachLoadBalancerTargetGroups" Freely [Groups] on AutoScalingGroups;
}}

operations! { S3: "s3" {
    HEAD_BUCKET = "HeadBucket" Freely [Doctor] as "s3:ListBucket" on Bucket;
    /// Without the right to list, an object that is missing is "forbidden".
    HEAD_OBJECT = "HeadObject" Freely [Objects, Bake] as "s3:GetObject" on Objects,
        "s3:ListBucket" on Bucket;
    GET_OBJECT = "GetObject" Freely [Objects, Bake] on Objects, "s3:ListBucket" on Bucket;
    PUT_OBJECT = "PutObject" Freely [Objects, Bake] on Objects;
    DELETE_OBJECT = "DeleteObject" Freely [Bake, Gc] on Objects;
    LIST_OBJECTS_V2 = "ListObjectsV2" Freely [Objects, Gc] as "s3:ListBucket" on Bucket;
    /// Sent again, it begins another one.
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload" Never [Objects] as "s3:PutObject" on Objects;
    UPLOAD_PART = "UploadPart" Freely [Objects] as "s3:PutObject" on Objects;
    COMPLETE_MULTIPART_UPLOAD = "CompleteMultipartUpload" Never [Objects] as "s3:PutObject"
        on Objects;
    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload" Freely [Objects, Gc] on Objects;
    LIST_PARTS = "ListParts" Freely [Objects] as "s3:ListMultipartUploadParts" on Objects;
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads" Freely [Objects, Gc]
        as "s3:ListBucketMultipartUploads" on Bucket;
}}

operations! { SSM: "ssm" {
    DESCRIBE_INSTANCE_INFORMATION = "DescribeInstanceInformation" Freely [Ssm] on Anything;
    /// Sent again, the command runs twice.
    SEND_COMMAND = "SendCommand" Never [Ssm] on Document;
    GET_COMMAND_INVOCATION = "GetCommandInvocation" Freely [Ssm] on Anything;
}}

operations! { QUOTAS: "servicequotas" {
    GET_SERVICE_QUOTA = "GetServiceQuota" Freely [Quotas] on Anything;
}}

operations! { STS: "sts" {
    GET_CALLER_IDENTITY = "GetCallerIdentity" Freely [Doctor] on Everybody;
    /// The provider of credentials sends it, not we.
    ASSUME_ROLE = "AssumeRole" Freely [Objects] on Roles;
}}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_request_stands_here_once() {
        let mut seen = HashSet::new();
        for operation in all() {
            assert!(seen.insert((operation.service, operation.name)), "{} twice", operation.name);
        }
        assert!(seen.contains(&("s3", "UploadPart")) && seen.contains(&("sts", "AssumeRole")));
    }

    #[test]
    fn the_action_is_the_request_but_for_s3() {
        for operation in all() {
            let [own, ..] = operation.grants else { panic!("{} takes nothing", operation.name) };
            let same = format!("{}:{}", operation.service, operation.name);
            assert!(own.action == same || operation.service == "s3", "{} is {}", same, own.action);
            assert!(own.action.starts_with(operation.service));
        }
    }
}
