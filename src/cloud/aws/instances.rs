//! Instances that Windlass launches itself.
