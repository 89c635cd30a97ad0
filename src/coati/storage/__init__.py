"""What survives: transaction logs, snapshots and epoch files, byte for byte those of Apache ZooKeeper."""
