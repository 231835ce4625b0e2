//! Fleets whose instances an Auto Scaling group launches.
