//! The routing barrier: rules and tables over rtnetlink, and what the kernel says of devices.
