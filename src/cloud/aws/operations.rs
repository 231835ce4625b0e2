//! Every request that is ever sent, so that what it takes to be allowed is known before.

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
}

const fn freely(service: &'static str, name: &'static str) -> Operation {
    Operation { service, name, repeat: Repeat::Freely }
}

const fn once(service: &'static str, name: &'static str) -> Operation {
    Operation { service, name, repeat: Repeat::Never }
}

pub const DESCRIBE_INSTANCES: Operation = freely("ec2", "DescribeInstances");
pub const DESCRIBE_IMAGES: Operation = freely("ec2", "DescribeImages");
// A client token makes one of many.
pub const RUN_INSTANCES: Operation = freely("ec2", "RunInstances");
pub const TERMINATE_INSTANCES: Operation = freely("ec2", "TerminateInstances");
pub const STOP_INSTANCES: Operation = freely("ec2", "StopInstances");
pub const CREATE_IMAGE: Operation = once("ec2", "CreateImage");
pub const CREATE_TAGS: Operation = freely("ec2", "CreateTags");
