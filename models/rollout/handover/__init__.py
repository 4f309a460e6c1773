"""Ways to send the policy's weights to its rollout engine, one file each."""
