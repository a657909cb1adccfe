"""What is to be delivered: publishing, what is due, who owns which shard, and each change of a delivery."""
