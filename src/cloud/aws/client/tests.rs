use super::*;

fn meaning(code: &str, status: u16, said: &str) -> &'static str {
    match by_code(code, status, said, String::new()) {
        Error::NotFound(_) => "not found",
        Error::Conflict(_) => "conflict",
        Error::Throttled { .. } => "throttled",
        Error::NoCapacity(_) => "no capacity",
        Error::Denied(_) => "denied",
        Error::Ambiguous(_) => "ambiguous",
        Error::Failed(_) => "failed",
        Error::Provision { .. } | Error::TooLate(_) => "not a meaning of a code",
    }
}

#[test]
fn a_code_says_what_to_do() {
    let table = [
        ("RequestLimitExceeded", 503, "throttled"),
        ("Throttling", 400, "throttled"),
        ("ThrottlingException", 400, "throttled"),
        ("SlowDown", 503, "throttled"),
        ("PriorRequestNotComplete", 400, "throttled"),
        ("HTTP 429", 429, "throttled"),
        ("InsufficientInstanceCapacity", 500, "no capacity"),
        ("InsufficientFreeAddressesInSubnet", 400, "no capacity"),
        ("Unsupported", 400, "no capacity"),
        ("VcpuLimitExceeded", 400, "denied"),
        ("InstanceLimitExceeded", 400, "denied"),
        ("NetworkInterfaceLimitExceeded", 400, "denied"),
        ("UnauthorizedOperation", 403, "denied"),
        ("AccessDenied", 403, "denied"),
        ("ExpiredToken", 400, "denied"),
        ("InvalidClientTokenId", 403, "denied"),
        ("HTTP 403", 403, "denied"),
        ("IdempotentParameterMismatch", 400, "conflict"),
        ("InvalidAMIName.Duplicate", 400, "conflict"),
        ("InvalidSnapshot.InUse", 400, "conflict"),
        ("ResourceContention", 500, "throttled"),
        ("ScalingActivityInProgress", 400, "throttled"),
        ("InvalidLaunchTemplateName.AlreadyExistsException", 400, "conflict"),
        ("InvalidInstanceID.NotFound", 400, "not found"),
        ("InvalidAMIID.NotFound", 400, "not found"),
        ("InvalidAMIID.Unavailable", 400, "not found"),
        ("InvalidLaunchTemplateId.NotFoundException", 400, "not found"),
        ("TargetGroupNotFound", 400, "not found"),
        ("NoSuchUpload", 404, "not found"),
        ("InvocationDoesNotExist", 400, "not found"),
        ("HTTP 404", 404, "not found"),
        ("InternalError", 500, "ambiguous"),
        ("InternalError", 200, "ambiguous"),
        ("ServiceUnavailable", 503, "ambiguous"),
        ("Unavailable", 503, "ambiguous"),
        ("RequestTimeout", 400, "ambiguous"),
        ("InvalidParameterValue", 400, "failed"),
        ("InvalidInstanceID.Malformed", 400, "not found"),
        ("ValidationError", 400, "failed"),
    ];
    for (code, status, expected) in table {
        assert_eq!(meaning(code, status, ""), expected, "{code}");
    }
    // Auto Scaling says it in the text only.
    assert_eq!(meaning("ValidationError", 400, "Request limit exceeded."), "throttled");
}
