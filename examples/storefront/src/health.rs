//! Whether the service says that it is well. Set this to `false` and ship it, to see what Windlass
//! does with a version whose health check fails: production stays on the version before.

pub const HEALTHY: bool = true;
