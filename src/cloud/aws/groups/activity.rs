//! PURE. Why a group launches nothing, by what its activities say.

use crate::cloud::Error;

/// What the message of a failed activity means. It has the code of EC2's error in it, for most errors;
/// the sentences are those of "Troubleshoot Amazon EC2 Auto Scaling: EC2 instance launch failures".
pub fn meaning(group: &str, message: &str) -> Error {
    let has = |needles: &[&str]| needles.iter().any(|needle| message.contains(needle));
    let told = format!("the group {group} cannot launch: {message}");
    let room = [
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientCapacity",
        "UnfulfillableCapacity",
        "SpotMaxPriceTooLow",
        "do not have sufficient",
        "no Spot capacity available",
        "not enough free addresses",
    ];
    let limits = [
        "InstanceLimitExceeded",
        "VcpuLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "LimitExceeded",
        "vCPU capacity than your current",
        "quota",
    ];
    let rights = [
        "UnauthorizedOperation",
        "AccessDenied",
        "AuthFailure",
        "OptInRequired",
        "PendingVerification",
        "not authorized",
    ];
    match () {
        () if has(&room) => Error::NoCapacity(told),
        () if has(&limits) || has(&rights) => Error::Denied(told),
        () if has(&[".NotFound", ".Malformed", "does not exist", "no longer exists"]) => {
            Error::NotFound(told)
        }
        () => Error::Failed(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_activity_is_told_by_its_code() {
        let of = |message: &str| meaning("shop", message);
        let capacity = "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do \
                        not have sufficient t3.small capacity in the Availability Zone you requested. \
                        Launching EC2 instance failed.";
        assert!(matches!(of(capacity), Error::NoCapacity(_)));
        let capacity = "We currently do not have sufficient p2.xlarge capacity in the Availability Zone you \
                        requested (us-east-1e). Launching EC2 instance failed.";
        assert!(matches!(of(capacity), Error::NoCapacity(_)));
        let quota = "VcpuLimitExceeded - You have requested more vCPU capacity than your current vCPU limit \
                     of 32 allows. Launching EC2 instance failed.";
        assert!(matches!(of(quota), Error::Denied(_)));
        let right = "You are not authorized to perform this operation. Launching EC2 instance failed.";
        assert!(matches!(of(right), Error::Denied(_)));
        let image = "The image id '[ami-1]' does not exist. Launching EC2 instance failed.";
        assert!(matches!(of(image), Error::NotFound(_)));
        let other = of("Client.InternalError: Client error on launch.");
        assert!(matches!(&other, Error::Failed(told) if told.contains("shop")), "{other}");
    }
}
