//! Machines that images are made on, and images.
