"""What the owner of a shard does besides sending what is due: commands, replays, expiry, housekeeping."""
